"""Losses, batches and the loop."""
