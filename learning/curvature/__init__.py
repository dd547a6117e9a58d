"""Gradients of rows, curvature of a model's loss, and solutions of systems with it."""
