"""Training: one model, or many together."""
