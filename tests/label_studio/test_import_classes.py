from __future__ import annotations

from ihp_backend.data.layout_writers import WRITERS
from ihp_backend.label_studio.export_classes import classes_of
from ihp_backend.label_studio.import_classes import match_classes
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP


def config(*labels: str) -> LabelConfig:
    tags = "".join(f"<Label {label}/>" for label in labels)
    return LabelConfig.parse(
        f'<View><Image name="image" value="$image"/><KeyPointLabels name="k" toName="image">{tags}</KeyPointLabels>'
        f'<BrushLabels name="b" toName="image">{tags}</BrushLabels></View>'
    )


def matched(*labels: str) -> dict[str, list[str]]:
    found = match_classes(config(*labels), LIP, set(range(len(LIP))) | {255})
    assert not set(found.unmatched) & {LIP.names[i] for ids in found.ids_of.values() for i in ids}
    assert len(found.unmatched) + sum(map(len, found.ids_of.values())) == len(LIP) - 1
    return {label: [LIP.names[i] for i in ids] for label, ids in found.ids_of.items()}


def test_the_label_that_is_called_like_the_class_goes_before_those_that_mean_it() -> None:
    assert matched('value="Jeans"', 'value="PANTS"') == {"PANTS": ["pants"]}
    assert matched('value="Jeans"', 'value="Trousers"') == {"Jeans": ["pants"]}


def test_the_label_that_means_fewer_classes_goes_before_a_union() -> None:
    union = 'value="Clothes" predicted_values="pants,coat,skirt"'
    assert matched(union, 'value="Jeans"') == {"Clothes": ["coat", "skirt"], "Jeans": ["pants"]}


def test_what_does_not_occur_needs_no_label() -> None:
    assert match_classes(config('value="Face"'), LIP, {0, 255, LIP.names.index("face")}).unmatched == ()


def test_a_folder_has_the_classes_of_a_label_set_only_if_the_labels_are_all_of_them() -> None:
    names = [f'value="{name.upper()}"' for name in LIP.names[1:]]
    assert classes_of(config(*names), WRITERS["folder"]).schema is LIP
    assert classes_of(config(*names[1:]), WRITERS["folder"]).schema.names == (
        "background",
        *(name.upper() for name in LIP.names[2:]),
    )
    assert len(classes_of(config(*names, 'value="Bag"'), WRITERS["folder"]).schema) == len(LIP) + 1


def test_labels_that_differ_in_letters_alone_are_one_class_and_a_background_is_the_background() -> None:
    found = classes_of(
        config('value="Left arm"', 'value="left-arm"', 'value="Background"', 'value="Bag"'), WRITERS["coco"]
    )
    assert found.of_label == {"Left arm": 1, "left-arm": 1, "Background": 0, "Bag": 2}
    assert found.schema.names == ("background", "Left arm", "Bag")
