"""Objects from Python in the place of a scenario's methods; no file can hold or replay them."""
