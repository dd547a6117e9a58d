"""Both games of one scenario: the numbers of two games, side by side."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
from markupsafe import escape
from pydantic import ValidationError
from rich.console import Console
from safetensors.numpy import load_file

from backfire.cli.tables import show
from backfire.playing import play
from backfire.reporting.text import number, sentence
from clients.agents import deal_scenario
from scenarios.loader import parse
from scenarios.scenario import Scenario
from scenarios.text.errors import ScenarioError
from server.games.both import effort_of
from server.referee.assembly import group_scores
from server.referee.findings import judged
from server.referee.results import AgentScores, GameResult, GroupScores
from server.referee.scoring.agents import CountedHits
from server.referee.scoring.scores import mean_share, share, share_of
from server.referee.side_by_side import findings, pairs
from server.store.run_folder import RunFolder
from small_games import ROOT, small

QUICKSTART = ROOT / "scenarios" / "federated" / "quickstart.yaml"


def cheats(name: str, epsilon: float, draw: str) -> dict:
    trigger = {"kind": "random_badnet", "epsilon": epsilon, "draw": draw}
    behaviour = {"kind": "backdoor", "poison_rate": 0.5, "target": "distinct", "trigger": trigger}
    return {"name": name, "count": 2, "behaviour": behaviour}


AGENTS = [
    {"name": "honest", "count": 3, "behaviour": {"kind": "benign"}},
    cheats("mallory", 0.3, "per_agent"),
    cheats("chameleon", 0.55, "per_row") | {"window": {"first": 2}},
]
DEFENDERS = {
    "undefended": [],
    "median": [{"kind": "median"}],
    "filtered": [{"kind": "spectral_signatures"}],
    "shards": [{"kind": "agent_indexing", "method": "shards", "shards": 2}],
}


def scenario(**changes) -> Scenario:
    changes = {"game": "both", "defenders": DEFENDERS, "referee": {"alone": 1}} | changes
    federation = {"rounds": 2, "local_epochs": 1}
    return small(QUICKSTART, players=AGENTS, federation=federation, **changes)


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    whole = scenario()
    alone = {}
    for game, names in (
        ("pooled", ["undefended", "filtered", "shards"]),
        ("federated", ["undefended", "median", "shards"]),
    ):
        defenders = {name: DEFENDERS[name] for name in names}
        alone[game] = play(scenario(game=game, defenders=defenders), out=out)
    return play(whole, out=out), alone


def test_each_game_gives_the_numbers_and_the_models_of_that_game_alone(games):
    both, alone = games
    models = load_file(both.folder / "model.safetensors")
    expected = {}
    for game, played in alone.items():
        own = {f"{game}: {name}": one for name, one in played.result.defenders.items()}
        found = {n: one for n, one in both.result.defenders.items() if n.startswith(game)}
        assert found == own
        assert list(found) == list(own)
        expected |= {
            f"{game}: {key}": value
            for key, value in load_file(played.folder / "model.safetensors").items()
        }
    assert models.keys() == expected.keys()
    for key, value in expected.items():
        assert models[key].tobytes() == value.tobytes(), key
    rounds = alone["federated"].result.rounds
    assert both.result.rounds == {f"federated: {name}": one for name, one in rounds.items()}
    assert both.result.trainings == sum(one.result.trainings for one in alone.values())


def test_every_game_has_its_own_controls(games):
    for scores in games[0].result.defenders.values():
        assert scores.clean_accuracy_attacker_free is not None
        for group in ("mallory", "chameleon"):
            assert scores.groups[group].asr_untrained is not None
            assert scores.groups[group].asr_alone.agents == 1
            assert scores.groups[group].interference.count > 0
    played = [
        {name for name, own in scores.agents.items() if own.asr_alone is not None}
        for scores in games[0].result.defenders.values()
    ]
    assert all(names == played[0] for names in played)  # the same attackers alone everywhere


def test_the_run_folder_holds_both_games(games):
    both, _ = games
    folder = RunFolder.open(both.folder)
    assert folder.result() == both.result
    assert GameResult.model_validate_json(both.result.model_dump_json()) == both.result
    table = pyarrow.parquet.read_table(both.folder / "agents.parquet").to_pylist()
    assert len(table) == 6 * 7
    assert {row["defender"] for row in table} == set(both.result.defenders)
    logged = {record["phase"] for record in folder.rounds()}
    assert {"pooled: admission", "federated: admission", "federated: round"} <= logged


def test_what_each_game_trains_is_counted(games):
    both, alone = games
    pooled, federated = (part.effort for part in both.result.games)
    rows = alone["pooled"].result.rows
    assert (pooled.rounds, pooled.epochs, pooled.agents) == (0, 2, 7)
    assert pooled.rows == rows["defender"] + rows["agents"]
    assert pooled.seen == 2 * pooled.rows
    assert (federated.rounds, federated.epochs, federated.agents) == (2, 1, 7)
    assert (federated.rows, federated.own_rows) == (rows["agents"], 0)
    assert federated.seen == 2 * rows["agents"]


def test_steps_are_counted_in_rows():
    federation = {"rounds": 3, "local_steps": 5, "agents_per_round": 2}
    steps = small(
        QUICKSTART, players=AGENTS, federation=federation, game="both", defenders={"d": []}
    )
    dealt = deal_scenario(steps)
    roster = [SimpleNamespace(name=n, rows=rows) for n, (_, rows) in dealt.registered.items()]
    effort = effort_of(steps, dealt, "federated", roster)
    assert (effort.rounds, effort.agents, effort.steps, effort.epochs) == (3, 2, 5, None)
    assert all(agent.rows >= steps.training.batch_size for agent in roster)
    assert effort.seen == 3 * 2 * 5 * steps.training.batch_size


def bad(defenders, **changes) -> str:
    with pytest.raises(ScenarioError) as caught:
        scenario(defenders=defenders, **changes)
    (line,) = caught.value.lines
    return line


@pytest.mark.parametrize(
    ("defenders", "place", "message"),
    [
        (
            {"no": [{"kind": "spectral_signatures"}, {"kind": "median"}]},
            "defenders.no[1]:",
            "expected a defence of a pooled game, as those before it are of no other, got median",
        ),
        (
            {"no": [{"kind": "bucketing"}, {"kind": "cutmix"}]},
            "defenders.no[1]:",
            "expected a defence of a federated game, as those before it are of no other, "
            "got cutmix",
        ),
        (
            {"no": [{"kind": "bucketing"}, {"kind": "agent_indexing", "method": "tree"}]},
            "defenders.no[1]:",
            "expected agent_indexing with method: exact or shards, and index: known",
        ),
        (
            {"no": [{"kind": "median"}, {"kind": "bucketing"}]},
            "defenders.no[0]:",
            "expected the aggregation rule last, got median before others",
        ),
        (
            {"no": [{"kind": "krum", "f": 3}]},
            "defenders.no[0]:",
            "expected a feasible rule",
        ),
    ],
)  # fmt: skip
def test_a_defender_that_can_be_played_in_no_game_is_an_error_at_its_place(
    defenders, place, message
):
    line = bad({"undefended": []} | defenders)
    assert place in line
    assert message in line


@pytest.mark.parametrize(
    ("kind", "missing"), [("median", "pooled"), ("spectral_signatures", "federated")]
)
def test_both_games_need_a_defender(kind, missing):
    line = bad({"one": [{"kind": kind}]})
    assert "defenders:" in line
    assert f"expected a defender that can be played in a {missing} game too, got none" in line


def test_a_defender_plays_where_all_its_defences_can_be_played():
    tree = [{"kind": "agent_indexing", "method": "tree"}]
    whole = scenario(defenders=DEFENDERS | {"tree": tree})
    assert list(whole.only("pooled").defenders) == ["undefended", "filtered", "shards", "tree"]
    assert list(whole.only("federated").defenders) == ["undefended", "median", "shards"]
    assert parse(json.dumps(whole.resolved()), "again") == whole
    for game in ("pooled", "federated"):
        assert parse(json.dumps(whole.only(game).resolved()), game) == whole.only(game)


def test_update_attacks_and_windows_have_no_part_in_the_pooled_game(tmp_path):
    agents = [*AGENTS[:2], {"name": "flipper", "behaviour": {"kind": "benign"}}]
    agents[2]["update"] = {"kind": "sign_flip"}
    whole = small(
        QUICKSTART,
        players=agents,
        game="both",
        federation={"rounds": 1},
        defenders={"undefended": []},
        referee={"alone": 0},
    )
    pooled, federated = play(whole, out=tmp_path).result.games
    flips = [part.roster[-1] for part in (pooled, federated)]
    assert [agent.name for agent in flips] == ["flipper", "flipper"]
    assert [agent.malicious for agent in flips] == [False, True]
    told = RunFolder.open(next(tmp_path.iterdir())).result().verdict
    assert any("no updates" in line and "flipper" in line for line in told)


@pytest.mark.parametrize(
    "change",
    [
        {"game": "pooled"},
        {"games": []},
        {"defenders": {}},
    ],
)
def test_a_result_whose_games_do_not_fit_is_no_result(change, games):
    values = json.loads(games[0].result.model_dump_json()) | change
    with pytest.raises(ValidationError):
        GameResult.model_validate(values)


HITS = {"high": 380, "low": 20}


def group(alone: str, together: str, trainings: int = 2) -> GroupScores:
    draw = np.arange(400)
    alone, together, never = (
        np.tile(draw < hits, (trainings, 1)) for hits in (HITS[alone], HITS[together], 0)
    )
    agent = AgentScores(
        run_time_accuracy=share(1, 1), asr=share_of(together[0]), asr_all=share_of(together[0]),
        robust_accuracy=share(0, 400), asr_untrained=mean_share(never),
        asr_together=mean_share(together), asr_alone=mean_share(alone),
        clean_accuracy_alone=share(380, 400),
    )  # fmt: skip
    return group_scores([agent], [CountedHits(together, never, alone)])


def parts_of(result: GameResult, pooled: GroupScores, federated: GroupScores, keep=7):
    found = {}
    for name, scores in result.defenders.items():
        own = pooled if name.startswith("pooled") else federated
        learnt = {
            "clean_accuracy": share(95, 100),
            "clean_accuracy_attacker_free": share(96, 100),
            "groups": {"mallory": own},
        }
        found[name] = judged(scores.model_copy(update=learnt), 2)
    parts = [part.model_copy(update={"roster": part.roster[:keep]}) for part in result.games]
    return parts, found


BACKFIRED = ("high", "low")
KEPT = ("high", "high")
LOST, NONE = "(interference 90 points, 86.4 to 92.4)", "(interference 0 points, -1 to 1)"


@pytest.mark.parametrize(
    ("pooled", "federated", "said", "compared"),
    [
        (
            BACKFIRED,
            KEPT,
            f"mallory backfired in the pooled game {LOST}; "
            f"mallory did not backfire in the federated game {NONE}.",
            "is 90 points below that in the pooled game",
        ),
        (
            KEPT,
            BACKFIRED,
            f"mallory did not backfire in the pooled game {NONE}; "
            f"mallory backfired in the federated game {LOST}.",
            "is 90 points above that in the pooled game",
        ),
        (
            BACKFIRED,
            BACKFIRED,
            "mallory backfired in both games (interference pooled 90 points, 86.4 to 92.4, "
            "federated 90 points, 86.4 to 92.4).",
            "cannot be told apart from that in the pooled game",
        ),
    ],
)
def test_the_finding_says_in_which_game_a_group_backfired(pooled, federated, said, compared, games):
    found = findings(*parts_of(games[0].result, group(*pooled), group(*federated)))
    assert found[0] == f"Against the undefended model, {said}"
    assert found[1].startswith(f"Interference of mallory in the federated game {compared}")


def test_games_that_were_trained_once_are_described_and_not_compared(games):
    once = group("high", "low", trainings=1), group("high", "high", trainings=1)
    found = findings(*parts_of(games[0].result, *once))
    assert len(found) == 1
    assert "mallory has less success together than alone in the pooled game, in this" in found[0]
    assert "mallory has about the same success together and alone in the federated" in found[0]


def test_a_single_attacker_is_not_compared(games):
    found = findings(*parts_of(games[0].result, group("high", "low"), group("high", "low"), 4))
    assert len(found) == 1
    assert "in the pooled game mallory-01 is the only attacker" in found[0]


def test_each_group_is_paired_against_the_defenders_of_both_games(games):
    result = games[0].result
    found = pairs(result.games, result.defenders)
    assert [(pair.title, pair.group) for pair in found] == [
        (title, name) for title in ("undefended", "shards") for name in ("mallory", "chameleon")
    ]
    for pair in found:
        for one, game in zip(pair.games, ("pooled", "federated"), strict=True):
            assert one.part.game == game
            assert one.attackers == 2
            assert one.scores == result.defenders[f"{game}: {pair.title}"].groups[pair.group]


def test_the_verdict_speaks_of_both_games(games):
    told = games[0].result.verdict
    found = findings(games[0].result.games, games[0].result.defenders)
    assert told[: len(found)] == found
    for kind in ("pooled", "federated"):
        assert any(f"the undefended model of the {kind} game" in line for line in told)
    assert sum("speak of this one deal of the data" in line for line in told) == 1


def test_the_report_and_the_terminal_show_the_games_side_by_side(games):
    page = games[0].report.read_text(encoding="utf-8")
    assert '<section id="games">' in page
    section = page.split('<section id="games">')[1].split("</section>")[0]
    for game in ("pooled", "federated"):
        assert f'<th scope="row">{game}<div class="readings">' in section
    for line in findings(games[0].result.games, games[0].result.defenders):
        assert escape(sentence(line)) in section
    assert 'aria-label="Interference by game"' in section
    assert "Only in the pooled game: filtered." in section
    assert "Only in the federated game: median." in section
    for part in games[0].result.games:
        assert f"<td>{number(part.effort.seen)}</td>" in section
    console = Console(width=100, record=True, file=io.StringIO())
    show(games[0].result, games[0].report, console)
    text = console.export_text()
    assert text.count("mallory") >= 6
    for name in ("pooled", "federated"):
        assert name in text
