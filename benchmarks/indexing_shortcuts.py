"""Agent indexing: what the shortcuts cost and what they do, against exact leave-one-out models."""

from __future__ import annotations

import time

import numpy as np
from scipy.special import softmax

from clients.agents import Agents, deal_scenario
from clients.data_attacks.base import Contribution, Share
from learning.data.partitioning import Partitioning
from learning.pool import DEFENDER, Block, Pool
from learning.seeds import derived_seed
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from scenarios.scenario import Scenario
from strategies.base import Defender, Predictor
from strategies.indexing.agent_indexing import AgentIndexing
from strategies.together import play_together

VARIANTS: dict[str, dict] = {
    "exact": {},
    "tree": {"method": "tree"},
    "tree x2": {"method": "tree", "passes": 0.2},
    "shards 2": {"method": "shards", "shards": 2},
    "shards 4": {"method": "shards"},
}


def scenario(agents: int, seed: int) -> Scenario:
    """Return a game of attackers only: a fifth of each one's rows carries its own trigger."""
    trigger = {"kind": "random_badnet", "epsilon": 0.15}
    behaviour = {"kind": "backdoor", "poison_rate": 0.2, "trigger": trigger}
    return Scenario.model_validate(
        {
            "name": "indexing",
            "data": {"kind": "digits"},
            # small_cnn ends in a global mean and learns sixteen triggers too badly to compare.
            "model": {"kind": "mlp", "hidden": (256, 128)},
            "training": {"epochs": 30, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 3e-3}},
            "agents": [{"name": "mallory", "count": agents, "behaviour": behaviour}],
            "defenders": {"indexed": [{"kind": "agent_indexing"}]},
            "seed": seed,
        }
    )


def table(game: Scenario) -> tuple[Partitioning, Pool, dict[str, tuple[Share, Contribution]]]:
    """Deal the data and collect the agents' rows."""
    dealt = deal_scenario(game)
    agents, first = Agents(game, dealt), dealt.first_ids()
    plays = {name: agents.play(name) for name in agents.names}
    own = Block(DEFENDER, 0, dealt.x[dealt.defender], dealt.y[dealt.defender])
    blocks = [Block(name, first[name], play.x, play.y) for name, (_, play) in plays.items()]
    return dealt, Pool((own, *blocks), dealt.data.classes), plays


def engine_for(game: Scenario, dealt: Partitioning) -> Engine:
    """Return a fresh engine, so that no model is taken over from another variant."""
    data = dealt.data
    return Engine(
        Recipe(game.model, data.shape, data.classes, game.training, game.compute, game.seed)
    )


def predicted(defender: Defender, models: tuple[Trained, ...], x: np.ndarray) -> np.ndarray:
    """Return the classes of the mean softmax, int64 (n,)."""
    total = 0.0
    for model in models:
        total = total + softmax(defender.logits(model, x).astype(np.float64), axis=1)
    return np.asarray(total).argmax(1)


def asr(defender: Defender, models: tuple[Trained, ...], share: Share, play: Contribution) -> float:
    """Return the share of triggered inputs of other classes that get the target."""
    counted = share.y_run != play.targets
    hits = predicted(defender, models, play.x_triggered[counted]) == play.targets[counted]
    return float(hits.mean())


def score(
    defender: Defender,
    predictor: Predictor,
    dealt: Partitioning,
    plays: dict[str, tuple[Share, Contribution]],
) -> dict[str, float]:
    """Return, over all asking agents, the asr of the asking agent and of the others."""
    own, others, clean = [], [], []
    for name in plays:
        models = predictor.models(name)
        rates = {other: asr(defender, models, *plays[other]) for other in plays}
        own.append(rates.pop(name))
        others.append(np.mean(list(rates.values())))
        clean.append((predicted(defender, models, dealt.test_x) == dealt.test_y).mean())
    return {"own": np.mean(own), "others": np.mean(others), "clean": np.mean(clean)}


def play(game: Scenario, variants: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Play all variants on one pool; figures by variant."""
    dealt, pool, plays = table(game)
    out: dict[str, dict[str, float]] = {}
    for name, fields in {"undefended": None, **variants}.items():
        engine = engine_for(game, dealt)
        defender = Defender(
            seed=derived_seed(game.seed, "defender"),
            shape=dealt.data.shape,
            classes=dealt.data.classes,
            agents=tuple(plays),
            epochs=game.training.epochs,
            device=engine.device,
        )
        start = time.perf_counter()
        if fields is None:
            predictor = Predictor(tuple(engine.train([Training(pool)])))
        else:
            steps = AgentIndexing(**fields).predictor(pool, defender, (), tuple(plays))
            predictor = play_together({name: steps}, engine.train)[name]
        seconds = time.perf_counter() - start
        scored = score(defender, predictor, dealt, plays)
        out[name] = {"work": predictor.work, "seconds": seconds, **scored}
    return out


def run(quick: bool) -> dict:
    seeds = range(1 if quick else 3)
    rows = [row for agents in ((16,) if quick else (16, 32)) for row in compare(agents, seeds)]
    note = (
        f"digits, three-layer MLP, attackers only, 20 % poison, epsilon 0.15, {len(seeds)} seed(s)."
        " own drop: how far an agent's asr falls on the model that answers it, in points, against"
        " the undefended model; drop of others: how far the other agents' falls on it. work counts"
        " the model of all too."
    )
    return {"name": "agent indexing: shortcuts against exact", "rows": rows, "note": note}


def compare(agents: int, seeds: range) -> list[dict]:
    """Return one row for each way of indexing, as means over the seeds."""
    games = [play(scenario(agents, seed), VARIANTS) for seed in seeds]
    mean = {
        name: {key: float(np.mean([game[name][key] for game in games])) for key in games[0][name]}
        for name in games[0]
    }
    alone, exact = mean["undefended"], mean["exact"]
    return [
        {
            "agents": agents,
            "method": name,
            "work": of["work"],
            "work / exact": of["work"] / exact["work"],
            "seconds / exact": of["seconds"] / exact["seconds"],
            "asr own %": 100 * of["own"],
            "own drop": 100 * (alone["own"] - of["own"]),
            "drop of others": 100 * (alone["others"] - of["others"]),
            "clean %": 100 * of["clean"],
        }
        for name, of in mean.items()
    ]
