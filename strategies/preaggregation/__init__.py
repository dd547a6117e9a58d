"""Pre-aggregation: what is done to the updates of a round before they are aggregated."""
