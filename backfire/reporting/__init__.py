"""The report of a game: one HTML file, made from the run folder alone."""

from __future__ import annotations

from backfire.reporting.render import render

__all__ = ["render"]
