"""A static table of attack against defence, made of the cards of many sweeps."""
