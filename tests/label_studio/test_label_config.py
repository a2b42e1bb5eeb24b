"""Label configs: the shipped ones, a user's own, and those that need a fix."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface.interface import LabelInterface

from ihp_backend.label_studio.config_tags import OPTIONS
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.parts import LIP, SCHEMAS

FOLDER = Path(__file__).parents[2] / "label_config"
SHIPPED = sorted(FOLDER.glob("*.xml"))
LABEL_STUDIO_KEYS = set("hoemkwprvbu")  # tools and views of the image editor


def own(labels: str, smart: str = 'smart="true"') -> str:
    return f"""
    <View>
      <Header value="Who is it?"/><Choices name="who" toName="photo"><Choice value="me"/></Choices>
      <Image name="photo" value="$picture_url"/>
      <KeyPointLabels name="points" toName="photo" {smart}>{labels}</KeyPointLabels>
      <BrushLabels name="paint" toName="photo">{labels}</BrushLabels>
    </View>"""


def test_there_is_one_for_each_schema() -> None:
    assert {path.stem.replace("_", "-") for path in SHIPPED} == set(SCHEMAS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs(path: Path) -> None:
    schema = SCHEMAS[path.stem.replace("_", "-")]
    text = path.read_text()
    config = LabelConfig.parse(text)
    parts = config.parts(schema)
    assert sorted(parts.values()) == sorted((name,) for name in schema.names[1:])  # each part once, no background
    root = ElementTree.fromstring(text)
    (keypoints,), (brushes,) = root.iter("KeyPointLabels"), root.iter("BrushLabels")
    assert keypoints.get("smart") == "true"
    assert brushes.get("smart") == "false"
    assert [x.get("value") for x in keypoints] == [x.get("value") for x in brushes] == list(config.labels)
    assert [x.get("background") for x in keypoints] == [x.get("background") for x in brushes]
    keys = [x.get("hotkey") for x in keypoints]
    assert len(set(keys)) == len(keys)
    assert None not in keys
    assert not LABEL_STUDIO_KEYS & {str(key) for key in keys}
    assert [x.get("hotkey") for x in brushes] == [f"shift+{key}" for key in keys]
    # Otherwise Label Studio makes a plain point of a click that is not the wand's.
    assert keypoints.get("smartOnly") == "true"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_colours_can_be_told_apart(path: Path) -> None:
    codes = [x.get("background", "") for x in next(ElementTree.parse(path).iter("BrushLabels"))]
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in codes], np.float32)[None] / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in combinations(lab, 2))
    assert nearest > 20  # a difference of 2.3 is just visible


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_label_studio_accepts_them(path: Path) -> None:
    interface = LabelInterface(path.read_text())
    interface.validate()
    assert {c.name for c in interface.controls} == {"click", "mask"}


def test_a_config_of_ones_own() -> None:
    config = LabelConfig.parse(
        own(
            '<Label value="LEFT_ARM"/><Label value="upper clothes"/><Label value="Trousers"/><Label value="Tattoo"/>'
            '<Label value="Oberkörper" predicted_values="upper-clothes, Coat,dress"/>'
            '<Label value="Face" predicted_values="hat"/><Label value="Hair" predicted_values="nonsense"/>'
        )
    )
    assert (config.image, config.value, config.keypoint, config.brush) == ("photo", "$picture_url", "points", "paint")
    assert config.parts(LIP) == {
        "LEFT_ARM": ("left-arm",),
        "upper clothes": ("upper-clothes",),
        "Trousers": ("pants",),
        "Tattoo": (),
        "Oberkörper": ("upper-clothes", "coat", "dress"),
        "Face": ("hat",),
        "Hair": ("hair",),
    }


def test_an_alias_is_what_label_studio_calls_the_label() -> None:
    config = LabelConfig.parse(own('<Label value="Dress" alias="d1"/><Label value="Kleid" alias="coat"/>'))
    assert config.labels == ("d1", "coat")
    assert config.parts(LIP) == {"d1": ("dress",), "coat": ("coat",)}


def test_predicted_values_may_stand_on_the_clicked_control() -> None:
    xml = """<View><Image name="i" value="$u"/>
      <KeyPointLabels name="k" toName="i"><Label value="Oberteil" predicted_values="upper-clothes"/></KeyPointLabels>
      <BrushLabels name="b" toName="i"><Label value="Oberteil"/></BrushLabels></View>"""
    assert LabelConfig.parse(xml).parts(LIP) == {"Oberteil": ("upper-clothes",)}


@given(st.sampled_from(LIP.names), st.data())
def test_case_hyphens_and_spaces_do_not_matter(name: str, data: st.DataObject) -> None:
    written = "".join(
        data.draw(st.sampled_from(["-", "_", " ", ""])) if c == "-" else data.draw(st.sampled_from([c, c.upper()]))
        for c in name
    )
    assert LabelConfig.parse(own(f'<Label value="{written}"/>')).parts(LIP)[written] == (name,)


def test_of_several_keypoint_controls_the_smart_one() -> None:
    xml = """<View><Image name="i" value="$u"/>
      <KeyPointLabels name="plain" toName="i" smart="false"><Label value="Nose"/></KeyPointLabels>
      <KeyPointLabels name="clever" toName="i"><Label value="Face"/></KeyPointLabels>
      <BrushLabels name="b" toName="i"><Label value="Face"/></BrushLabels></View>"""
    assert LabelConfig.parse(xml).keypoint == "clever"


def test_the_pair_on_one_image_is_found_among_two_images() -> None:
    xml = """<View><Image name="a" value="$a"/><Image name="b" value="$b"/>
      <KeyPointLabels name="ka" toName="a"><Label value="Face"/></KeyPointLabels>
      <KeyPointLabels name="kb" toName="b"><Label value="Face"/></KeyPointLabels>
      <BrushLabels name="mb" toName="b"><Label value="Face"/></BrushLabels></View>"""
    config = LabelConfig.parse(xml)
    assert (config.keypoint, config.brush, config.value) == ("kb", "mb", "$b")


def controls(*pairs: tuple[str, str, str], image: str = "i") -> str:
    """Keypoint and brush controls: (kind and name, further attributes, labels)."""
    tags = ""
    for control, attributes, labels in pairs:
        kind, name = control.split()
        inner = "".join(f'<Label value="{label}"/>' for label in labels.split())
        tags += f'<{kind} name="{name}" toName="{image}" {attributes}>{inner}</{kind}>'
    return tags


def view(*tags: str) -> str:
    return f'<View><Image name="i" value="$u"/>{"".join(tags)}</View>'


def clicked(config: LabelConfig, keypoint: str) -> LabelConfig:
    return config.clicked_with([{"type": "keypointlabels", "from_name": keypoint}])


def test_each_keypoint_control_paints_with_the_brush_that_has_its_labels() -> None:
    config = LabelConfig.parse(
        view(
            controls(
                ("BrushLabels hairs", "", "Hair Beard"),
                ("BrushLabels faces", "", "Face Nose"),
                ("KeyPointLabels f", "", "Face Nose"),
                ("KeyPointLabels h", "", "Hair Beard"),
            )
        )
    ).check()
    assert config.labels == ("Hair", "Beard", "Face", "Nose")
    for keypoint, brush in (("f", "faces"), ("h", "hairs")):
        view_of = clicked(config, keypoint)
        assert (view_of.keypoint, view_of.brush) == (keypoint, brush)
        assert [view_of.brush_of(label) for label in ("Hair", "Face")] == ["hairs", "faces"]
        assert view_of.labels == config.labels, "training counts labels by their place"
        assert clicked(clicked(view_of, "h"), "f").keypoint == "f"
    assert clicked(config, "other") == config
    assert config.clicked_with([{"type": "keypointlabels", "from_name": ["h"]}, {}]) == config
    assert config.takes_click("h", "Hair")


def test_one_keypoint_control_may_paint_with_two_brushes() -> None:
    config = LabelConfig.parse(
        view(
            controls(
                ("KeyPointLabels k", "", "Face Hair"), ("BrushLabels a", "", "Face"), ("BrushLabels b", "", "Hair")
            )
        )
    ).check()
    assert (config.brush_of("Face"), config.brush_of("Hair")) == ("a", "b")


def test_twins_are_paired_in_their_order() -> None:
    """As for two people in one photo: the same labels twice."""
    config = LabelConfig.parse(
        view(
            controls(
                ("KeyPointLabels k1", "", "Face Hair"),
                ("KeyPointLabels k2", "", "Face Hair"),
                ("BrushLabels b1", "", "Face Hair"),
                ("BrushLabels b2", "", "Face Hair"),
            )
        )
    ).check()
    assert clicked(config, "k1").brush_of("Hair") == "b1"
    assert clicked(config, "k2").brush_of("Hair") == "b2"
    assert not config.takes_click("k2", "Hair"), "it means another mask"
    masks = [{"type": "brushlabels", "from_name": name, "to_name": "i"} for name in ("b1", "b2", "b3")]
    assert [config.is_painted(mask) for mask in masks] == [True, True, False]


def test_the_pair_of_the_clicked_image_is_found() -> None:
    xml = f"""<View><Image name="front" value="$a"/><Image name="back" value="$b[0]"/>{
        controls(("KeyPointLabels kf", "", "Face"), ("BrushLabels bf", "", "Face"), image="front")
    }{controls(("KeyPointLabels kb", "", "Hair Face"), ("BrushLabels bb", "", "Face Hair"), image="back")}</View>"""
    config = LabelConfig.parse(xml).check()
    assert (config.image, config.value, config.brush, config.labels) == ("front", "$a", "bf", ("Face",))
    back = clicked(config, "kb")
    assert (back.image, back.value, back.brush, back.labels) == ("back", "$b[0]", "bb", ("Face", "Hair"))
    assert not config.takes_click("kb", "Face")
    region = {"type": "brushlabels", "from_name": "bf", "to_name": "front"}
    assert config.is_painted(region)
    assert not back.is_painted(region)
    assert not config.is_painted(region | {"to_name": "back"})
    assert not config.is_painted(region | {"item_index": 2})


def test_options_of_ours() -> None:
    plain = LabelConfig.parse(own('<Label value="Face"/>'))
    assert (plain.suggest, plain.refine, plain.people, plain.overlap) == ("clicked", "clicked", "one", "no")
    options = 'ihp_suggest="all" ihp_refine="all" ihp_people="everyone" ihp_overlap="yes"'
    xml = own('<Label value="Face"/>', f'smart="true" {options}')
    config = LabelConfig.parse(xml)
    assert (config.suggest, config.refine, config.people, config.overlap) == ("all", "all", "everyone", "yes")
    LabelInterface(xml).validate()


@pytest.mark.parametrize(
    ("attribute", "expected"), [("", None), ('ihp_train_after="7"', 7), ('ihp_train_after="0"', 0)]
)
def test_a_project_says_when_it_trains(attribute: str, expected: int | None) -> None:
    assert LabelConfig.parse(own('<Label value="Face"/>', f'smart="true" {attribute}')).train_after == expected


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ('ihp_suggest="some"', 'ihp_suggest="some"; expected clicked or all'),
        (
            'ihp_person="one"',
            "'ihp_person'; expected ihp_suggest, ihp_refine, ihp_people, ihp_overlap, ihp_meanings, ihp_train_after",
        ),
        ('ihp_train_after="often"', 'ihp_train_after="often"; expected a whole number'),
        ('ihp_train_after="-1"', 'ihp_train_after="-1"; expected a whole number'),
        ('ihp_overlap="maybe"', 'ihp_overlap="maybe"; expected no or yes'),
        ('ihp_people=""', 'ihp_people=""; expected one or everyone'),
    ],
)
def test_an_option_that_cannot_be_is_named_with_its_choices(attribute: str, expected: str) -> None:
    with pytest.raises(LabelConfigError, match=expected):
        LabelConfig.parse(own('<Label value="Face"/>', attribute))


def test_the_options_are_documented() -> None:
    page = (FOLDER.parent / "docs" / "label-config.md").read_text()
    for name, choices in OPTIONS.items():
        assert f"| `ihp_{name}` | {', '.join(f'`{choice}`' for choice in choices)} | `{choices[0]}` |" in page


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ("<View/>", "no <Image>"),
        (own("").replace("KeyPointLabels", "RectangleLabels"), "no <KeyPointLabels>.*'photo'"),
        (own("").replace("BrushLabels", "EllipseLabels"), "no <BrushLabels>"),
        (own(""), 'no <Label value="..."'),
        (own('<Label value="a"/>').replace("$picture_url", "picture"), "dollar"),
        (
            own('<Label value="a"/>')
            .replace("<Image", '<Image name="other" value="$o"/><Image')
            .replace('name="paint" toName="photo"', 'name="paint" toName="other"'),
            "'photo'.*'other'.*one image",
        ),
        ("<View>" + " " * 1_000_001 + "</View>", "characters"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "not XML that can be read"),
        (None, "NoneType"),
    ],
)
def test_what_is_wrong_is_said_and_the_fix_shown(xml: str, expected: str) -> None:
    with pytest.raises(LabelConfigError, match=expected) as caught:
        LabelConfig.parse(xml)
    if "characters" not in expected:
        fix = str(caught.value).partition("A config that works:\n")[2]
        assert LabelConfig.parse(fix).labels == ("Face",)


PAIR = controls(("KeyPointLabels k", "", "Face Hair"), ("BrushLabels b", "", "Face Hair"))


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (view(PAIR.replace("Face", "face", 1)), r"name=\"k\".*'face'.*name=\"b\".*lacks.*Face, Hair"),
        (
            view(PAIR.replace('value="Face"', 'value="Face" alias="f"', 1)),
            r"'f'.*lacks.*same aliases",
        ),
        (
            view(PAIR, controls(("KeyPointLabels m", "", "Nose Ear"))),
            r"name=\"m\".*'Nose', 'Ear'",
        ),
        (view(PAIR, controls(("KeyPointLabels m", "", ""))), r'"m"> has no <Label'),
        (view(PAIR.replace('toName="i" ', 'toName="i" smart="false" ', 1)), r'smart="false".*sends no click'),
    ],
)
def test_a_config_some_of_whose_clicks_fit_nothing_is_refused_when_it_is_connected(xml: str, expected: str) -> None:
    config = LabelConfig.parse(xml)  # clicks that fit are answered all the same
    with pytest.raises(LabelConfigError, match=expected) as caught:
        config.check()
    fix = str(caught.value).partition("A config that works:\n")[2]
    assert LabelConfig.parse(fix).check().labels == ("Face",)


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (view(PAIR.replace("Face", "face", 1).replace("Hair", "hair", 1)), "'face', 'hair'.*lacks"),
    ],
)
def test_a_config_with_nothing_to_click_is_refused(xml: str, expected: str) -> None:
    with pytest.raises(LabelConfigError, match=expected):
        LabelConfig.parse(xml)


@pytest.mark.parametrize(("pairs", "is_read"), [(300, True), (301, False)])
def test_more_controls_than_anybody_pastes_are_refused_before_they_are_paired(pairs: int, is_read: bool) -> None:
    xml = "".join(
        f"""<Image name="i{n}" value="$i{n}"/><KeyPointLabels name="k{n}" toName="i{n}"><Label value="Face"/>
        </KeyPointLabels><BrushLabels name="b{n}" toName="i{n}"><Label value="Face"/></BrushLabels>"""
        for n in range(pairs)
    )
    if is_read:
        assert len(LabelConfig.parse(f"<View>{xml}</View>").others) == pairs - 1
        return
    with pytest.raises(LabelConfigError, match="602 controls of clicks and masks; expected at most 600"):
        LabelConfig.parse(f"<View>{xml}</View>")


def test_tags_may_be_in_any_letters() -> None:
    xml = view(PAIR).replace("Image", "image").replace("KeyPointLabels", "keypointlabels").replace("<Label ", "<label ")
    assert LabelConfig.parse(xml).check().labels == ("Face", "Hair")


def test_a_plain_keypoint_control_may_have_labels_of_its_own() -> None:
    """Landmarks, say: its clicks never come here."""
    xml = view(PAIR, controls(("KeyPointLabels landmarks", 'smart="false"', "Nose Ear")))
    assert LabelConfig.parse(xml).check().keypoint == "k"


@given(st.text(max_size=300))
def test_any_text_is_a_config_or_an_error_of_ours(text: str) -> None:
    with pytest.raises(LabelConfigError):
        LabelConfig.parse(text)
