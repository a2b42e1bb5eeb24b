"""The shipped label configs on a laptop's screen."""

from __future__ import annotations

from typing import Any

import pytest
from running_demo import Demo
from studio import Studio

from ihp_backend.demo.project import demo_title, find_project, hotkeys, label_config_of
from ihp_backend.parts import SCHEMAS

pytestmark = pytest.mark.e2e

_IN_SIGHT = """
() => [...document.querySelectorAll(".lsf-label")].filter(label => {
  const box = label.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return top && (label === top || label.contains(top) || top.contains(label));
}).map(label => label.innerText.split("\\n")[0])
"""
_PICKED = """
() => Object.fromEntries([...Htx.annotationStore.selected.names.values()].filter(tag => tag.type.endsWith("labels"))
  .map(tag => [tag.name, tag.selectedValues()]))
"""

_TOOL = """
() => [...Htx.annotationStore.selected.names.values()].find(tag => tag.type === "image")
  .getToolsManager().findSelectedTool().fullName
"""


@pytest.mark.parametrize("schema", SCHEMAS)
def test_all_labels_are_in_sight_once(demo: Demo, studio: Studio, schema: str) -> None:
    project = find_project(demo.client, demo_title(schema))
    assert project
    config = label_config_of(schema)
    demo.client.patch_project(int(project["id"]), label_config=config)
    studio.page.set_viewport_size({"width": 1440, "height": 900})
    studio.open(int(project["id"]), next(iter(demo.client.list_tasks(int(project["id"]))))["id"])
    keys = dict(hotkeys(config))
    studio.shot(f"l-{schema}")
    in_sight: list[str] = studio.page.evaluate(_IN_SIGHT)
    assert in_sight == list(keys.values()), "each label once: the brush's are folded away"
    assert len(set(keys)) == len(keys)

    for key, label in list(keys.items())[:: max(1, len(keys) // 3)]:
        studio.press(key)
        assert picked(studio) == {"click": [label], "mask": []}
        studio.press(key)  # a second time puts it away
        studio.press(f"Shift+{key.upper() if key.isalpha() else f'Digit{key}'}")
        assert picked(studio) == {"click": [], "mask": [label]}, "with Shift it is painted by hand"
        assert studio.page.evaluate(_TOOL) == "BrushTool"
        studio.press("Escape")


def picked(studio: Studio) -> dict[str, Any]:
    found: dict[str, Any] = studio.page.evaluate(_PICKED)
    return found
