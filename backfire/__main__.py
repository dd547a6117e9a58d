"""``python -m backfire``, also beside a user's file of the name `server.py`."""

from backfire.environment import own_rooms_first

own_rooms_first()

from backfire.cli.main import main  # noqa: E402 - not before

if __name__ == "__main__":  # the processes of a sweep import this module too
    main()
