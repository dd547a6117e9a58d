"""Benchmarks: ratios measured in one run, with memory and growth."""
