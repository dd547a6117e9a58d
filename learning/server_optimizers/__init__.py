"""What the server does with an aggregate: one server optimiser, one file."""
