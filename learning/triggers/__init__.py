"""Backdoor triggers: one trigger, one file."""
