"""Scores that a scenario asks for by name; `standard` has those that every game gives."""
