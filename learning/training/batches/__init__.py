"""Which rows are in which batch, and how they are changed."""
