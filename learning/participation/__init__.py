"""Which agents are sampled for a round of a federated game: one method a file."""
