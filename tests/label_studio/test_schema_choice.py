from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.label_studio.schema_choice import choose_schema
from ihp_backend.parts import CIHP, HELEN, LIP, OPEN, PASCAL_PERSON_PART, SCHEMAS, Schema

ALL = dict(SCHEMAS)
READY = Path(__file__).parents[2] / "label_config"


def config_of(labels: Sequence[str], attributes: str = "", **predicted_values: str) -> LabelConfig:
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    painted = "".join(
        f'<Label value="{label}" predicted_values="{predicted_values.get(label, "")}"/>' for label in labels
    )
    return LabelConfig.parse(
        f"""<View><Image name="i" value="$image"/>
        <KeyPointLabels name="k" toName="i" {attributes}>{tags}</KeyPointLabels>
        <BrushLabels name="b" toName="i">{painted}</BrushLabels></View>"""
    )


def chosen(config: LabelConfig, there: dict[str, Schema] | None = None) -> str:
    return choose_schema(config, ALL if there is None else there).answering


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_ready_configs_are_answered_by_their_own_schema(name: str) -> None:
    config = LabelConfig.parse((READY / f"{name.replace('-', '_')}.xml").read_text())
    assert choose_schema(config, ALL).wanted == name
    assert chosen(config) == name
    assert choose_schema(config, ALL).note == ""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["Face", "Hair", "Upper-clothes"], "lip"),  # CIHP knows them as well
        (["Face", "Hair", "Upper-clothes", "Torso-skin"], "cihp"),
        (["Face", "Hair", "Upper-clothes", "Jumpsuits"], "lip"),
        (["TORSO SKIN", "hair"], "cihp"),
        (["Face"], "lip"),  # to Helen it is another name of its face skin
        (["Hair"], "lip"),  # to Helen, too, it is its name
        (["Face", "Hair", "Nose"], "helen"),
        (["left eyebrow"], "helen"),
        (["Torso"], "pascal-person-part"),  # to CIHP it is another name of its torso skin
        (["Head", "Torso", "Thighs"], "pascal-person-part"),
        (["Left-eye", "Upper-clothes", "Bag"], "lip"),
        (["Left-eye", "Right-eye", "Upper-clothes", "Bag"], "helen"),
        (["Outfit", "Bare area", "Bag"], "lip"),  # no schema knows any
        (["Face", "Skin", "Costume"], "lip"),  # to Helen, Face and Skin are one part
    ],
)
def test_the_schema_that_knows_most_labels_answers(labels: list[str], expected: str) -> None:
    assert chosen(config_of(labels)) == expected
    assert chosen(config_of(labels[::-1])) == expected


def test_what_predicted_values_name_counts() -> None:
    assert chosen(config_of(["A", "B"], A="left-eye", B="nose,mouth")) == "helen"
    assert chosen(config_of(["Body", "Bag"], Body="upper-clothes, torso-skin")) == "lip", "both know a part of it"
    assert chosen(config_of(["Body", "Skin"], Body="upper-clothes", Skin="torso-skin")) == "cihp"
    assert chosen(config_of(["Face"], Face="face-skin,nose")) == "helen", "LIP knows it by the label's own name only"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_label_config_may_ask_for_a_schema(name: str) -> None:
    assert chosen(config_of(["Face", "Hair", "Upper-clothes"], f'ihp_schema="{name}"')) == name


def test_a_schema_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(LabelConfigError, match=r"ihp_schema=.lisp.*lip or cihp or pascal-person-part or helen"):
        config_of(["Face"], 'ihp_schema="lisp"')
    with pytest.raises(LabelConfigError, match="ihp_schema"):
        config_of(["Face"], 'ihp_scheme="lip"')
    with pytest.raises(LabelConfigError, match="expected lip or"):
        config_of(["Face"], 'ihp_schema=""')


def two_controls(first: str, second: str) -> LabelConfig:
    return LabelConfig.parse(
        f"""<View><Image name="i" value="$image"/>
        <KeyPointLabels name="bodies" toName="i" {first}><Label value="Coat"/><Label value="Dress"/></KeyPointLabels>
        <BrushLabels name="b1" toName="i"><Label value="Coat"/><Label value="Dress"/></BrushLabels>
        <KeyPointLabels name="faces" toName="i" {second}><Label value="Nose"/><Label value="Left-eye"/>
          <Label value="Right-eye"/></KeyPointLabels>
        <BrushLabels name="b2" toName="i"><Label value="Nose"/><Label value="Left-eye"/><Label value="Right-eye"/>
        </BrushLabels></View>"""
    )


@pytest.mark.parametrize("control", ["bodies", "faces"])
def test_a_project_has_one_schema_whichever_control_is_clicked_with(control: str) -> None:
    def clicked(config: LabelConfig) -> LabelConfig:
        return config.clicked_with([{"type": "keypointlabels", "from_name": control}])

    assert chosen(clicked(two_controls("", ""))) == "helen"
    assert chosen(clicked(two_controls('ihp_schema="cihp"', ""))) == "cihp"
    assert chosen(clicked(two_controls("", 'ihp_schema="lip"'))) == "lip"


def test_two_controls_that_ask_for_two_schemas_are_refused() -> None:
    with pytest.raises(LabelConfigError, match="lip and helen"):
        two_controls('ihp_schema="lip"', 'ihp_schema="helen"')


def test_without_weights_of_the_schema_the_best_there_is_answers_and_says_so() -> None:
    face = config_of(["Face-skin", "Hair", "Nose", "Left-eye"])
    found = choose_schema(face, {"lip": LIP})
    assert (found.wanted, found.answering) == ("helen", "lip")
    assert "no weights of the label set helen" in found.note
    assert "lip answer instead, which know 1 of the 4 labels" in found.note
    assert "model_weights/helen" in found.note
    body = config_of(["Torso-skin", "Face", "Coat"])
    assert chosen(body, {"pascal-person-part": PASCAL_PERSON_PART, "lip": LIP}) == "lip"
    asked = config_of(["Face", "Hair"], 'ihp_schema="helen"')
    assert choose_schema(asked, {"lip": LIP, "cihp": CIHP}).wanted == "helen"
    assert chosen(asked, {"cihp": CIHP, "lip": LIP}) == "cihp", "of equal ones the first"


def test_weights_of_own_classes_answer_the_labels_that_they_know() -> None:
    own = OPEN.extended(["Outfit", "Bare area"])
    there = {"open": own, **SCHEMAS}
    assert chosen(config_of(["Outfit", "Bare area", "Hair"]), there) == "open"
    assert chosen(config_of(["Face", "Hair"]), there) == "lip"
    assert chosen(config_of(["Nose"]), {"open": own, "helen": HELEN}) == "helen"
