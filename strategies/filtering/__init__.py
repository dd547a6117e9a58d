"""Filters: defences that take rows out of the pool."""
