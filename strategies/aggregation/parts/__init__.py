"""What several aggregation rules share."""
