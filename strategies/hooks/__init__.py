"""Training-time hooks: defences that act on each batch."""
