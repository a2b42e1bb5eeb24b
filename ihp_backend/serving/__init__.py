"""The HTTP application, the ML SDK adapter, and what threads share."""
