"""Payoff matrices of a sweep: equilibria, dominance, the value of a zero-sum game."""
