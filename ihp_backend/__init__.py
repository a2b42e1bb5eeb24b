"""Interactive human parsing for Label Studio: clicks with names go in, masks with names come out."""

__version__ = "0.1.0"
