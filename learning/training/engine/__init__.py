"""The engine: what is asked for is grouped, made ready and trained."""
