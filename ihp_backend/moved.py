"""Old import paths: who hosts the class or wrote a script against one gets the module at its new place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "ihp_backend.backend": "ihp_backend.serving.sdk_adapter",
    "ihp_backend.server": "ihp_backend.serving.application",
    "ihp_backend.runtime": "ihp_backend.serving.runtime",
    "ihp_backend.label_studio.annotations": "ihp_backend.label_studio.annotated_tasks",
}


class MovedModules(MetaPathFinder, Loader):
    """Imports the new module itself under the old name, so that its classes are the same ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns a spec for an old path; ``None`` for any other."""
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Puts the new module in the place of the old one."""
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])
