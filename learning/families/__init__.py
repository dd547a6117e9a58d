"""Which families of methods there are, and what other installed packages offer in them."""
