"""How the referee scores: answers in batched passes, then counts."""
