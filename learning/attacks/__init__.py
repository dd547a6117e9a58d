"""Input attacks: one attack, one file."""
