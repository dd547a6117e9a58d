"""Attackers that aim at clean accuracy: what they cost, and what may be said of it."""
