"""Scenario files as text: YAML, where everything stood, and how mistakes are told."""
