"""When and how a project learns from its annotations."""
