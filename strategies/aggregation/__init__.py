"""Aggregation rules: how the updates of one round become one update."""
