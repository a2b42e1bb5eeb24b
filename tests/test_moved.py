"""Importing the package imports nothing costly; what it names is there when it is asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import ihp_backend
from ihp_backend.moved import MOVED


def test_importing_the_package_imports_neither_torch_nor_the_sdk() -> None:
    code = "import sys, ihp_backend; print([m for m in ('torch', 'label_studio_ml', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_class_is_found_at_the_top() -> None:
    from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing

    assert ihp_backend.InteractiveHumanParsing is InteractiveHumanParsing
    with pytest.raises(AttributeError, match="no attribute 'Interactive'"):
        ihp_backend.Interactive  # noqa: B018


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_new_module_itself(old: str) -> None:
    assert importlib.import_module(old) is importlib.import_module(MOVED[old])


def test_a_path_that_never_was_is_still_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ihp_backend\.nothing"):
        importlib.import_module("ihp_backend.nothing")
