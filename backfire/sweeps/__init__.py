"""Sweeps: many games of one scenario, played by several processes, and their long table.

`play_sweep` plays one; `read_rows` reads the table of a finished one.
"""

from backfire.sweeps.playing import Failure, PlayedSweep, play_sweep
from backfire.sweeps.rows import ScoreRow
from backfire.sweeps.table import read_rows

__all__ = ["Failure", "PlayedSweep", "ScoreRow", "play_sweep", "read_rows"]
