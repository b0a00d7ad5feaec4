"""Models: from a batch to features to logits; and where their weights come from."""
