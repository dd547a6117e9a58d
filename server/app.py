"""The defender's Flower `ServerApp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from clients.agents import deal_scenario
from learning.data.partitioning import Partitioning
from learning.training.device import threads
from learning.training.engine.engine import pick_device
from learning.training.engine.model_cache import ModelCache
from scenarios.loader import parse
from scenarios.scenario import Scenario
from server.events import Observer, ignore
from server.games.both import play_both
from server.games.checkpointer import Checkpointer
from server.games.federated import play_federated
from server.games.game import Game
from server.games.pooled import play_pooled


def create_app(
    given: Scenario | str | None = None,
    dealt: Partitioning | None = None,
    observe: Observer = ignore,
    finish: Callable[[Game], None] = lambda game: None,
    keeper: Checkpointer | None = None,
    known: ModelCache | None = None,
) -> ServerApp:
    """Return the defender's app.

    Args:
        given: The scenario, or its text (YAML or JSON); by default the run's setting ``scenario``.
        dealt: The dealt data, where this process already has it.
        observe: Told of each step of the game.
        finish: Given the game when it is over.
        keeper: Keeps the game, so that it can go on where it was cut off; by default nobody does.
        known: Models that other games of this process have trained; read by pooled games.
    """
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        text = str(context.run_config["scenario"]) if given is None else given
        scenario = parse(text, "scenario") if isinstance(text, str) else text
        data = dealt if dealt is not None else deal_scenario(scenario)
        with threads(_threads(scenario)):
            if scenario.game == "pooled":
                finish(play_pooled(scenario, data, grid, observe, keeper, known))
            else:
                finish(_GAMES[scenario.game](scenario, data, grid, observe, keeper))

    return server


_GAMES: Final = {"federated": play_federated, "both": play_both}


def _threads(scenario: Scenario) -> int | None:
    """Return the threads for everything but training, which sees to its own.

    Passes of small models are too short to be shared by cores: where one of them is busy with
    something else, two threads were up to six times slower than one.
    """
    small = scenario.model.batchable and pick_device(scenario.compute.device).type == "cpu"
    return 1 if small else scenario.compute.threads


app = create_app()
