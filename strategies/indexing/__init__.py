"""Indexing: for each agent a model without it."""
