"""``python -m backfire``."""

from backfire.cli import main

main()
