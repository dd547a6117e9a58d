"""Learning rates by epoch: one schedule, one file."""
