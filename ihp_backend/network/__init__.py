"""The human parser and its weights."""
