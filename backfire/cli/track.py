"""The option ``--track``, which several commands have."""

from __future__ import annotations

from typing import Annotated

import typer


def _known(names: list[str]) -> list[str]:
    """Refuse names of nobody."""
    if names:
        from backfire.trackers.base import TRACKERS, plugin

        try:
            for name in names:
                if name not in TRACKERS:
                    plugin(name)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return names


def _begun(incomplete: str) -> list[str]:
    from backfire.trackers.base import tracker_names

    return [name for name in tracker_names() if name.startswith(incomplete)]


Track = Annotated[
    list[str],
    typer.Option(
        "--track",
        metavar="NAME",
        callback=_known,
        autocompletion=_begun,
        help="Tell this tracker (tensorboard, wandb, mlflow, or one of a plug-in) of rounds and "
        "scores, in tracking/ of the run's folder; repeatable. W&B and MLflow stay offline unless "
        "WANDB_MODE or MLFLOW_TRACKING_URI say otherwise.",
    ),
]
