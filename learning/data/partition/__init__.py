"""How training rows are dealt to the agents: one partition, one file."""
