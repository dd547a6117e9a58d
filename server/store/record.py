"""What is kept of a played game: models and a gallery of triggers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from learning.pool import Bools, Floats
from server.games.game import Game
from server.games.session import GameSession
from server.store.run_folder import RunFolder
from strategies.base import Predictor

_AGENTS = 12
_IMAGES = 4


def record(game: Game, folder: RunFolder) -> None:
    """Write a game's models, gallery and result, and finish the run folder.

    Raises:
        RunFolderError: If the folder cannot be written.
    """
    folder.write_model(models(game))
    folder.write_gallery(gallery(game.table))
    folder.finish(game.result)


def models(game: Game) -> dict[str, Tensor]:
    """Return the weights of every model of the attacked game, each set of weights once.

    Names are ``<defender>/<key>`` for a defender with one shared model, with the position of the
    model (``<defender>/<k>/<key>``) where the shared answer is a mean of several, and
    ``<defender>/<agent>/...`` for the models of an index.
    """
    weights: dict[str, Tensor] = {}
    for defender, outcome in game.outcomes.items():
        for prefix, module in _modules(outcome.predictor):
            for key, value in module.state_dict().items():
                weights["/".join((defender, *prefix, key))] = value
    return weights


def _modules(predictor: Predictor) -> list[tuple[tuple[str, ...], torch.nn.Module]]:
    found: dict[int, tuple[tuple[str, ...], torch.nn.Module]] = {}
    for owner, members in (("", predictor.shared), *predictor.by_agent.items()):
        for position, model in enumerate(members):
            place = (str(position),) if len(members) > 1 else ()
            prefix = (owner, *place) if owner else place
            found.setdefault(id(model.module), (prefix, model.module))
    return list(found.values())


def gallery(table: GameSession) -> dict[str, Tensor]:
    """Return a few inputs of attackers as they were and as they were made.

    Agents are taken in turn from each group, so that every kind of attack is shown.
    """
    images: dict[str, Tensor] = {}
    damaging = {record.name for record in table.roster if record.damages}
    for agent in _shown(table):
        run_time = table.sealed.run_time[agent]
        if len(run_time.x_triggered):
            images[f"original/{agent}"] = _tensor(run_time.x[run_time.triggered_rows[:_IMAGES]])
            images[f"triggered/{agent}"] = _tensor(run_time.x_triggered[:_IMAGES])
            if run_time.x_part is not None:
                images[f"part/{agent}"] = _tensor(run_time.x_part[:_IMAGES])
        truth = table.sealed.truth[agent]
        poisoned: Bools = truth.poisoned
        if poisoned.any() and agent in table.pool.owners:  # no rows in a federated game
            images[f"poisoned_from/{agent}"] = _tensor(truth.clean_x[:_IMAGES])
            images[f"poisoned/{agent}"] = _tensor(table.pool.block(agent).x[poisoned][:_IMAGES])
            if agent in damaging:
                given = table.pool.block(agent).y[poisoned][:_IMAGES]
                labels = np.stack([truth.clean_y[:_IMAGES], given], axis=1).astype(np.float32)
                images[f"poisoned_labels/{agent}"] = _tensor(labels[:, :, None, None])
    return images


def _shown(table: GameSession) -> list[str]:
    groups: dict[str, list[str]] = {}
    for entry in table.roster:
        if entry.malicious and entry.name in table.sealed.run_time:
            groups.setdefault(entry.group, []).append(entry.name)
    turns = [
        members[turn]
        for turn in range(_AGENTS)
        for members in groups.values()
        if turn < len(members)
    ]
    return turns[:_AGENTS]


def _tensor(rows: Floats) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
