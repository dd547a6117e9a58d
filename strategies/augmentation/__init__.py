"""Augmentations: defences that change or add rows."""
