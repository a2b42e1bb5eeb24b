"""From image and clicks to masks."""
