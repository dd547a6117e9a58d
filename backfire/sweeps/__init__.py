"""Sweeps: many games of one scenario, played by several processes, and their long table.

`play_sweep` plays one; `read_rows` reads the table of a finished one.
"""

from backfire.evidence.long_table import read_rows
from backfire.evidence.rows import ScoreRow
from backfire.sweeps.playing import Failure, PlayedSweep, play_sweep

__all__ = ["Failure", "PlayedSweep", "ScoreRow", "play_sweep", "read_rows"]
