"""Solvers of (H + damping) s = v, of which H is known by its products only.

Sums over long vectors depend on the number of CPU threads in their last digits. Whoever wants the
same bytes for any number solves inside `learning.training.device.repeatable`.
"""
