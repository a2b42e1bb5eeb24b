"""What the annotator has before them, and what a click changes in it. No JSON."""
