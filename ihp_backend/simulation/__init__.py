"""Simulated clicks, for training and for evaluation."""
