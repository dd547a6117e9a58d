"""The runtime of real machines: both ends, and whether the other one is reachable."""
