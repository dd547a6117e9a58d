"""The option ``--track``, which several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class TrackerName(StrEnum):
    """Who is told of a game besides the run folder."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"
    MLFLOW = "mlflow"


Track = Annotated[
    list[TrackerName],
    typer.Option(
        "--track",
        help="Tell this tracker of rounds and scores, in tracking/ of the run's folder; "
        "repeatable. W&B and MLflow stay offline unless WANDB_MODE or MLFLOW_TRACKING_URI say "
        "otherwise.",
    ),
]
