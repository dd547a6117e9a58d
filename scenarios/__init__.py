"""Scenarios: the schema, the loader and the library of scenario files."""
