"""A whole labelling server to try it on: what `make run` starts."""
