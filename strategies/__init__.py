"""The defences: filtering, augmentation, indexing, training-time hooks, aggregation."""
