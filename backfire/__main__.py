"""``python -m backfire``."""

from backfire.cli.main import main

if __name__ == "__main__":  # the processes of a sweep import this module too
    main()
