"""The operator's side of games on real machines: certificates, keys, kits and the SuperLink."""
