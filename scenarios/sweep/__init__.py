"""Sweeps as files: axes, cells, and what a paper published."""
