"""What a sweep's scores say: estimates, comparisons, payoffs, equilibria, verdicts."""
