"""The defender's table: app, admission, the game, the referee, the run folder."""
