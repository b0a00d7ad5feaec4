"""Training: a method and batches become weights."""
