"""What several of our models are made of."""
