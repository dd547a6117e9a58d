"""All that touches Flower beyond its public names."""
