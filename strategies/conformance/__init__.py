"""Conformance suites for defences of your own."""
