"""Model architectures: one family, one file."""
