"""The scores of every game, one file for each tight group; `base` says what a score is."""
