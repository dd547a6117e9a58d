"""The seal: a defence that goes looking finds contributions, and nothing of the referee's.

A spy takes the place of a filter in a real game. From all that it is handed (the pool, what the
defender knows, the models that it is sent) it walks to everything that can be reached through
attributes, slots, containers, closures, array bases and tensor storages.
"""

import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from reachable import arrays, reachable

from backfire.runtimes.local import run_local
from clients.agents import deal_scenario
from clients.app import create_app as create_client
from learning.pool import DEFENDER, Block, Pool
from learning.training.job import Training
from scenarios.scenario import Scenario
from server.app import create_app as create_server
from server.events import ignore
from strategies.base import Verdict
from strategies.filtering.spectral_signatures import SpectralSignatures

TRIGGER = {"kind": "random_badnet", "epsilon": 0.3}
SCENARIO = {
    "name": "seal",
    "data": {"kind": "digits", "train_rows": 400, "test_rows": 60},
    "model": {"kind": "mlp", "hidden": [8]},
    "training": {"epochs": 1},
    "agents": [
        {"name": "honest", "count": 2, "behaviour": {"kind": "benign"}},
        {
            "name": "mallory",
            "count": 2,
            "behaviour": {"kind": "backdoor", "poison_rate": 0.5, "trigger": TRIGGER},
        },
    ],
    "defenders": {"spying": [{"kind": "spectral_signatures"}]},
    "seed": 987_654_321,
}


def rows_in(items, shape):
    """Return the images in any array, as bytes."""
    size = int(np.prod(shape))
    found = set()
    for array in arrays(items):
        if array.dtype == np.float32 and array.size and array.size % size == 0:
            found |= {row.tobytes() for row in array.reshape(-1, size)}
    return found


def contents(items):
    """Return whole arrays of some length, as bytes; told apart by type."""
    return {(a.dtype.kind, a.tobytes()) for a in arrays(items) if a.size >= 20}


@dataclass
class Spied:
    game: object
    handed: list


@pytest.fixture(scope="module")
def spied():
    handed = []

    def inspect(self, pool, defender):
        models = yield [Training(pool)]
        handed.append((pool, defender, self, models))
        return Verdict(pool.ids[:0], pool.ids, np.zeros(len(pool), np.float32))

    games = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpectralSignatures, "inspect", inspect)
        scenario = Scenario.model_validate(SCENARIO)
        text, dealt = json.dumps(scenario.resolved()), deal_scenario(scenario)
        server = create_server(text, dealt, ignore, games.append)
        run_local(
            server, create_client(text, dealt), [place.name for place in scenario.roster()],
            lambda grid: grid,
        )  # fmt: skip
    return Spied(games[0], handed)


def test_the_walk_finds_what_is_hidden_in_the_usual_places():
    class Slotted:
        __slots__ = ("hidden",)

    secret = np.arange(40, dtype=np.float32).reshape(10, 1, 2, 2)
    slotted = Slotted()
    slotted.hidden = secret
    view = Block(DEFENDER, 0, secret[:3], np.zeros(3, np.int64))
    hiding = {
        "containers": [{"a": (secret,)}],
        "slot": slotted,
        "partial": partial(len, secret),
        "closure": (lambda kept: lambda: kept)(secret),
        "default": lambda kept=secret: kept,
        "generator": (secret[row] for row in range(3)),
        "base of a view": Pool((view,), 2),
        "storage of a view": torch.from_numpy(secret)[:1],
    }
    for name, place in hiding.items():
        assert secret[9].tobytes() in rows_in(reachable(place), (1, 2, 2)), name


def test_a_spying_defence_finds_no_run_time_set_no_test_set_and_no_truth(spied):
    game = spied.game
    pool, defender, method, models = next(h for h in spied.handed if h[0] is game.table.pool)
    found = reachable(pool, defender, method, models)
    images, whole = rows_in(found, defender.shape), contents(found)
    own = {row.tobytes() for row in pool.x}
    assert own <= images, "the walk must at least find the contributions"

    sealed = game.table.sealed
    secret = [sealed.test_x]
    secret += [part for kept in sealed.run_time.values() for part in (kept.x, kept.x_triggered)]
    secret += [truth.clean_x for truth in sealed.truth.values()]
    rows = {row.tobytes() for part in secret for row in part} - own
    assert len(rows) > 150
    assert not rows & images
    facts = contents([sealed.test_y, *(truth.poisoned for truth in sealed.truth.values())])
    assert len(facts) > 2
    assert not facts & whole


def test_no_game_played_for_the_referee_shows_more_than_its_own_pool(spied):
    assert len(spied.handed) > 1  # the control games were spied on as well
    for pool, defender, method, models in spied.handed:
        images = rows_in(reachable(pool, defender, method, models), defender.shape)
        own = {row.tobytes() for block in pool.blocks for row in block.x}
        beyond = {row.tobytes() for kept in spied.game.table.sealed.run_time.values()
                  for row in (*kept.x, *kept.x_triggered)}  # fmt: skip
        assert not (images - own) & beyond


def test_strangers_among_the_reachable_objects_are_known_by_name(spied):
    pool, defender, method, models = spied.handed[0]
    kinds = {
        f"{type(item).__module__}.{type(item).__qualname__}"
        for item in reachable(pool, defender, method, models)
    }
    ours = {kind for kind in kinds if kind.split(".")[0] in {"server", "clients", "backfire"}}
    assert not ours


def test_the_games_seed_from_which_agents_draw_is_not_handed_over(spied):
    for handed in spied.handed:
        found = [item for item in reachable(*handed) if isinstance(item, int)]
        assert handed[1].seed in found
        assert SCENARIO["seed"] not in found
