"""The rules of the games: pooled, federated, both."""
