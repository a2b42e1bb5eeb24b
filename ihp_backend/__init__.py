"""Interactive human parsing for Label Studio: clicks with names go in, masks with names come out."""

import sys

from ihp_backend.moved import MovedModules

__version__ = "0.1.0"

sys.meta_path.append(MovedModules())


def __getattr__(name: str) -> object:
    """Imports the class that Label Studio's ML SDK hosts as soon as somebody asks for it."""
    if name != "InteractiveHumanParsing":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing

    return InteractiveHumanParsing
