"""Evaluation: what trained weights are worth."""
