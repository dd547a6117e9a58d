"""The runtimes: where a game's messages travel."""
