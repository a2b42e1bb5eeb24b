"""How many photos a task shows, and what the label config is for each of them."""

from __future__ import annotations

from typing import Any

import pytest
from paged_configs import CONFIGS, data_of, on_photo

from ihp_backend.label_studio.config_pages import MOST_PAGES
from ihp_backend.label_studio.image_address import address_of
from ihp_backend.label_studio.image_decoding import ImageError
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError

URLS = ("/data/a.png", "/data/b.png")


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_photo_of_a_task_has_its_own_view(kind: str) -> None:
    task = {"id": 1, "data": data_of(kind, *URLS)}
    config = LabelConfig.parse(CONFIGS[kind]).check().of_task(task)
    views = config.photos()
    assert [address_of(task, view.value) for view in views] == list(URLS)
    for place, view in enumerate(views):
        assert view.labels == ("Face", "Hair")
        for other in range(2):
            region = {"type": "brushlabels", **on_photo(kind, other, "mask")}
            assert view.is_painted(region) == (place == other)
            point = {"type": "keypointlabels", **on_photo(kind, other, "click")}
            clicked = view.clicked_with([point])
            assert address_of(task, clicked.value) == URLS[other]
            assert clicked.is_on_image(point)
            assert len(clicked.others) == 1


@pytest.mark.parametrize("kind", ["valueList", "repeater"])
def test_each_task_says_how_many_photos_it_has(kind: str) -> None:
    config = LabelConfig.parse(CONFIGS[kind])
    for count in (1, 3, MOST_PAGES):
        urls = [f"/data/{n}.png" for n in range(count)]
        task = {"id": 1, "data": data_of(kind, *urls)}
        assert [address_of(task, view.value) for view in config.of_task(task).photos()] == urls


@pytest.mark.parametrize("kind", ["valueList", "repeater"])
@pytest.mark.parametrize(
    ("photos", "came"),
    [
        (None, "NoneType"),
        ("/data/a.png", "str"),
        ({"0": "a"}, "dict"),
        ([], "0 photos"),
        (["a"] * (MOST_PAGES + 1), f"{MOST_PAGES + 1} photos"),
    ],
)
def test_a_task_without_such_a_list_is_told_so(kind: str, photos: Any, came: str) -> None:
    config = LabelConfig.parse(CONFIGS[kind])
    with pytest.raises(ImageError, match=rf"has {came} under '\$photos'.*list of 1 to {MOST_PAGES} photos"):
        config.of_task({"id": 1, "data": {"photos": photos}})
    with pytest.raises(ImageError, match="NoneType"):
        config.of_task({"id": 1, "data": None})


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (CONFIGS["valueList"].replace("$photos", "photos"), r'valueList="photos".*expected.*valueList="\$photos"'),
        (CONFIGS["repeater"].replace('on="$photos"', ""), r'Repeater on="".*expected.*on="\$photos"'),
        (
            CONFIGS["repeater"].replace("<Image", '<Repeater on="$x"><Text name="t"/></Repeater><Image'),
            "a <Repeater> in a <Repeater>",
        ),
    ],
)
def test_a_list_that_cannot_be_found_is_refused(xml: str, reason: str) -> None:
    with pytest.raises(LabelConfigError, match=reason):
        LabelConfig.parse(xml)


def test_a_repeater_without_a_photo_changes_nothing() -> None:
    xml = CONFIGS["two images"].replace("</View>", '<Repeater on="$notes"><Text name="t{{idx}}"/></Repeater></View>')
    config = LabelConfig.parse(xml)
    assert config.of_task({"id": 1, "data": {}}) is config


def test_the_tags_of_all_pages_are_bounded() -> None:
    many = CONFIGS["repeater"].replace("<Image", 1000 * "<Header/>" + "<Image")
    config = LabelConfig.parse(many)
    with pytest.raises(ImageError, match="more than 20000 tags"):
        config.of_task({"id": 1, "data": data_of("repeater", *["a"] * 30)})


def test_the_flag_may_be_another_one() -> None:
    xml = CONFIGS["repeater"].replace("{{idx}}", "#")
    config = LabelConfig.parse(xml).of_task({"id": 1, "data": data_of("repeater", *URLS)})
    assert [view.keypoint for view in config.photos()] == ["click_0", "click_1"]


def test_all_labels_of_all_photos_in_their_order() -> None:
    xml = CONFIGS["two images"]
    head, tail = xml.split('<Image name="image_1"')
    config = LabelConfig.parse(f'{head}<Image name="image_1"{tail.replace("Hair", "Coat")}')
    assert config.labels == ("Face", "Hair")
    everything = config.with_all_labels()
    assert everything.labels == ("Face", "Hair", "Coat")
    assert [everything.brush_of(label) for label in everything.labels] == ["mask_0", "mask_0", "mask_1"]
    assert LabelConfig.parse(CONFIGS["valueList"]).with_all_labels().labels == ("Face", "Hair")
