"""What an attacker does with its model update in a federated game: one attack, one file."""
