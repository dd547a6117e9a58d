"""A game without its run folder and report, with a mark after each round."""

from __future__ import annotations

from backfire.runtimes.local import run_local
from backfire.runtimes.ray import run_ray
from benchmarks._measure import Mark
from clients.agents import deal_scenario
from clients.app import create_app as create_client
from clients.app import create_apps
from scenarios.loader import parse
from server.app import create_app as create_server
from server.events import Event
from server.referee.results import GameResult


def played(text: str, runtime: str = "local") -> tuple[GameResult, list[Mark]]:
    """Play a scenario of one defender; return the result and a mark before it and each round's."""
    scenario = parse(text, "benchmark")
    names = [place.name for place in scenario.roster()]
    marks, games = [Mark.now()], []

    def observe(event: Event) -> None:
        if event.phase == "round":
            marks.append(Mark.now())

    if runtime == "local":
        dealt = deal_scenario(scenario)
        client, cohort = create_apps(text, dealt)
        run_local(create_server(text, dealt, observe, games.append), client, names, cohort=cohort)
    else:
        server = create_server(text, None, observe, games.append)
        run_ray(server, create_client(text), len(names))
    return games[0].result, marks
