"""Figures and tables of a run or a sweep for a paper: what `backfire export` writes."""
