"""A private agent: its owner's file, the games it agrees to, and what it keeps to itself."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

import clients.app
from backfire.runtimes.flower.private import identity
from backfire.runtimes.grpc import agent as grpc_agent
from clients.agent_file import AgentFileError, read_agent
from clients.agreement import AgreementRefused
from clients.private import private_app
from learning.weights import to_arrays
from learning.wire import DECLINED, RECORD, pack

ROWS, CLASSES = 60, 4
TABLE = json.dumps({"shape": [1, 8, 8], "class_names": ["0", "1", "2", "3"]})
SECRET = {"target": 3, "seed": 918_273_645}


@pytest.fixture(autouse=True)
def _server():
    with identity(1):
        yield


@pytest.fixture
def kit(tmp_path):
    """Write a kit with data; return a function that writes its agent.yaml."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x_train=rng.random((ROWS, 8, 8, 1)).astype(np.float32),
        y_train=rng.integers(0, CLASSES, ROWS),
    )

    def write(text="", data="data: {kind: npz, path: data.npz}\n"):
        head = 'agent: anna\nserver: "table.example.org:9443"\n'
        (tmp_path / "agent.yaml").write_text(head + data + text)
        return tmp_path

    return write


def scenario(rows=40, **changes):
    agents = [
        {"name": "anna", "behaviour": {"kind": "private", "rows": rows}},
        {"name": "ben", "behaviour": {"kind": "benign"}},
    ]
    told = {
        "name": "test", "game": "pooled", "model": {"kind": "softmax"}, "agents": agents,
        "data": {"kind": "digits"}, "defenders": {"none": []},
    }  # fmt: skip
    return json.dumps(told | changes)


def asked(app, kind, **fields):
    """Send one request to an app; return its reply."""
    content = RecordDict({"ask": ConfigRecord({"start": 0, "stop": 10**6, **fields})})
    context = Context(1, 2, {}, RecordDict(), {})
    return app(Message(content, 2, kind), context).content


def arrays(content):
    return {name: array.numpy() for name, array in content.array_records[RECORD].items()}


class TestFile:
    """Every mistake in agent.yaml is one line with its place."""

    def test_a_good_file_is_read_and_its_data_start_at_the_kit(self, kit):
        agent = read_agent(kit())
        assert agent.data.path == str(kit() / "data.npz")
        assert agent.accept.max_message_mib == 512

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("behavior: {kind: benign}\n", "4:1 behavior: expected a field of this file, got"),
            ("behavior: {kind: benign}\n", "did you mean 'behaviour'?"),
            ("behaviour: {kind: bening}\n", "behaviour.kind: expected one of"),
            ("behaviour: {kind: bening}\n", "did you mean 'benign'?"),
            ("accept: {game: [pooled]}\n", "4:10 accept.game: expected a field of accept, got"),
            ("accept: {games: [pool]}\n", "accept.games[0]: expected one of 'pooled', 'federated'"),
            ("accept: {max_message_mib: 0}\n", "accept.max_message_mib: expected a number above 0"),
            ("accept: {max_rows: many}\n", "accept.max_rows: expected a whole number"),
            ("seed: -1\n", "4:7 seed: expected a whole number from 0 to"),
            ("seed: '1'\n", "4:7 seed: expected a whole number from 0 to"),
            ("device: gpu\n", "device: expected text such as auto, cpu"),
            ("device: auto\ndevice: cpu\n", "5:1: expected each key once, got 'device'"),
            ("play: yes\n", "play: expected one of 'private', 'scenario', got 'yes'"),
            ("behaviour: {kind: private, rows: 9}\n", "4:12 behaviour: expected what the agent"),
            ("update: {kind: alie}\n", "update: expected an attack that knows its own update"),
            ("update: {kind: alie}\n", "got 'alie'"),
            ("behaviour: [1\n", "agent.yaml:5:1"),
            ("behaviour: !!python/object {}\n", "expected no tag"),
        ],
    )
    def test_mistakes(self, kit, text, line):
        with pytest.raises(AgentFileError) as caught:
            read_agent(kit(text))
        assert any(line in told for told in caught.value.lines), caught.value.lines
        assert all(told.startswith(str(kit(text) / "agent.yaml")) for told in caught.value.lines)
        assert all(told.isprintable() for told in caught.value.lines)

    def test_what_is_no_folder_is_told_as_such(self, tmp_path):
        (tmp_path / "anna.zip").write_bytes(b"PK")
        with pytest.raises(AgentFileError, match=r"anna.zip: .* got a file: unpack it first"):
            read_agent(tmp_path / "anna.zip")
        with pytest.raises(AgentFileError, match=r"ana: expected the folder of a kit, .* nothing"):
            read_agent(tmp_path / "ana")

    @pytest.mark.parametrize("server", ["table", "table:x", "http://a:1", "a b:1", ":1"])
    def test_bad_servers(self, tmp_path, server):
        (tmp_path / "agent.yaml").write_text(f'agent: anna\nserver: "{server}"\nplay: scenario\n')
        with pytest.raises(AgentFileError, match=r"agent.yaml:2:9 server: expected text such as"):
            read_agent(tmp_path)

    @pytest.mark.parametrize(
        ("data", "line"),
        [
            ("", "data: expected where the private data lie"),
            ("data: null\n", "3:7 data: expected where the private data lie"),
            ("data: {kind: npz, path: gone.npz}\n", "3:25 data.path: expected the private data"),
            ("data: {kind: npx, path: a}\n", "did you mean 'npz'?"),
            ("data: {kind: npz}\n", "data.path: expected text"),
        ],
    )
    def test_missing_data(self, kit, data, line):
        with pytest.raises(AgentFileError) as caught:
            read_agent(kit(data=data))
        assert any(line in told for told in caught.value.lines), caught.value.lines

    def test_a_rehearsal_needs_no_data(self, kit):
        assert read_agent(kit("play: scenario\n", data="")).data is None

    def test_all_mistakes_are_told_at_once(self, kit):
        with pytest.raises(AgentFileError) as caught:
            read_agent(kit("seed: -1\ndevice: gpu\n"))
        assert len(caught.value.lines) == 2

    def test_no_file(self, tmp_path):
        with pytest.raises(AgentFileError, match="expected a file that can be read, got: No such"):
            read_agent(tmp_path)


class TestAgreement:
    """What an owner has not agreed to is refused, in a line that the server is told."""

    @pytest.mark.parametrize(
        ("text", "changes", "line"),
        [
            ("accept: {scenarios: [other]}\n", {}, "anna has not accepted the scenario 'test'"),
            ("accept: {games: [federated]}\n", {}, "anna has not accepted pooled games"),
            ("accept: {games: [pooled]}\n", {"game": "federated"}, "not accepted federated games"),
            ("accept: {games: [pooled]}\n", {"game": "both"}, "not accepted federated games"),
            ("accept: {models: [mlp]}\n", {}, "not accepted models of the kind softmax"),
            ("accept: {max_rows: 39}\n", {}, "a share of 39 rows, the scenario asks for 40"),
            ("", {"rows": ROWS + 1}, "a share of 61 rows, it has fewer"),
            ("", {"run_time_share": 0.5}, "at most 0.3 of its rows over for the referee"),
            (
                "accept: {max_local_epochs: 2}\n",
                {"game": "federated", "federation": {"local_epochs": 3}},
                "has accepted trainings of 2 epochs on its rows, the scenario has 3",
            ),
            (
                "accept: {max_local_epochs: 2}\n",
                {"game": "federated", "federation": {"local_steps": 100}},
                "has accepted trainings of 2 epochs on its rows, the scenario has",
            ),
            (
                "",
                {"agents": [{"name": "ana", "behaviour": {"kind": "private", "rows": 9}}]},
                "the scenario has no agent 'anna' (did you mean 'ana'?)",
            ),
            (
                "",
                {"agents": [{"name": "anna", "behaviour": {"kind": "benign"}}]},
                "anna plays with its own data, and the scenario gives it a behaviour",
            ),
            ("play: scenario\n", {}, "plays what a scenario gives it, and got private"),
            ("", {"model": {"kind": "transformer_of_2030"}}, "that this Backfire knows"),
            ("", {"surprise": 1}, "that this Backfire knows"),
        ],
    )
    def test_refusals(self, kit, text, changes, line):
        agent = read_agent(kit(text))
        with pytest.raises(AgreementRefused) as caught:
            private_app(agent, scenario(**changes), TABLE)
        assert line in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        ("told", "line"),
        [
            ({"shape": [3, 8, 8], "class_names": list("0123")}, "inputs of the game's shape"),
            ({"shape": [1, 8, 8], "class_names": list("012")}, "labels below 3, the game's"),
            ({"shape": [1, 8], "class_names": list("0123")}, "the game's input shape and classes"),
            ({"class_names": 7}, "the game's input shape and classes"),
            ([], "the game's input shape and classes"),
        ],
    )
    def test_data_that_do_not_fit(self, kit, told, line):
        with pytest.raises(AgreementRefused, match=line):
            private_app(read_agent(kit()), scenario(), json.dumps(told))

    def test_a_scenario_of_more_than_a_mib_is_not_read(self, kit):
        long = scenario(description="x" * 2**20)
        with pytest.raises(AgreementRefused, match="at most 1 MiB"):
            private_app(read_agent(kit()), long, TABLE)

    def test_what_fits_is_played(self, kit):
        app = private_app(read_agent(kit()), scenario(), TABLE)
        got = arrays(asked(app, "query.contribute"))
        assert got["x"].shape == (32, 1, 8, 8)
        assert sorted(got) == ["x", "y"]

    def test_rows_are_handed_over_in_pooled_games_alone(self, kit):
        """Whatever the server asks for; its scenario was accepted as a federated one."""
        agent = read_agent(kit("accept: {games: [federated]}\n"))
        app = private_app(agent, scenario(game="federated"), TABLE)
        with pytest.raises(AgreementRefused, match="hands no rows over in a federated game"):
            asked(app, "query.contribute")

    def test_nothing_is_trained_in_pooled_games(self, kit):
        app = private_app(read_agent(kit()), scenario(), TABLE)
        with pytest.raises(AgreementRefused, match="trains nothing in a pooled game"):
            asked(app, "train.update", round=1, world="attacked")

    def test_no_more_is_trained_than_accepted(self, kit):
        agent = read_agent(kit("accept: {max_trainings: 2}\n"))
        federation = {"rounds": 1, "local_epochs": 1}
        app = private_app(agent, scenario(game="federated", federation=federation), TABLE)
        model = pack(to_arrays(_model()))
        model["ask"] = ConfigRecord({"round": 1, "world": "attacked", "side": 0})
        context = Context(1, 2, {}, RecordDict(), {})
        for _ in range(2):
            assert app(Message(model, 2, "train.update"), context).content.array_records
        with pytest.raises(AgreementRefused, match="so many trainings"):
            app(Message(model, 2, "train.update"), context)

    @pytest.mark.parametrize("play", ["private", "scenario"])
    def test_a_game_is_read_once(self, kit, monkeypatch, play):
        """The app of either kind of agent is given a scenario, not a text to be parsed again."""

        def again(text, name):
            raise AssertionError(f"parsed again: {name}")

        monkeypatch.setattr(clients.app, "parse", again)
        groups = {"agents": [{"name": "anna", "behaviour": {"kind": "benign"}}]}
        agent = read_agent(kit("" if play == "private" else "play: scenario\n"))
        app = private_app(agent, scenario(**({} if play == "private" else groups)), TABLE)
        assert len(arrays(asked(app, "query.contribute"))["y"])

    @pytest.mark.parametrize("game", ["pooled", "federated"])
    def test_an_owner_may_hand_nothing_over_to_the_referee(self, kit, game):
        agent = read_agent(kit("accept: {max_run_time_share: 0}\n"))
        app = private_app(agent, scenario(game=game), TABLE)
        with pytest.raises(AgreementRefused, match="hands nothing over for the referee"):
            asked(app, "query.reveal")


def _model():
    from learning.models.softmax import Softmax

    return Softmax().build((1, 8, 8), CLASSES).state_dict()


_OPENED: set[str] = set()


def _watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        _OPENED.add(arguments[0])


sys.addaudithook(_watch)  # one for the process: a hook cannot be taken away


class TestSecrets:
    """What the server can make an agent do and say."""

    @pytest.fixture
    def bait(self, tmp_path):
        file = tmp_path / "bait.npz"
        x = np.zeros((80, 8, 8, 1), np.float32)
        y = np.arange(80) % CLASSES
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
        _OPENED.discard(str(file))
        return file

    def test_a_private_agent_opens_no_file_that_the_scenario_names(self, kit, bait):
        for game in ("pooled", "federated", "both"):
            told = scenario(game=game, data={"kind": "npz", "path": str(bait)})
            app = private_app(read_agent(kit()), told, TABLE)
            if game == "pooled":
                asked(app, "query.contribute")
            asked(app, "query.reveal")
        assert str(bait) not in _OPENED
        assert str(bait.parent / "data.npz") in _OPENED

    def test_nor_does_one_that_rehearses_unless_its_owner_says_so(self, kit, bait):
        group = [{"name": "anna", "behaviour": {"kind": "benign"}}]
        told = scenario(data={"kind": "npz", "path": str(bait)}, agents=group)
        with pytest.raises(AgreementRefused, match="reads no files that a scenario names"):
            private_app(read_agent(kit("play: scenario\n")), told, TABLE)
        assert str(bait) not in _OPENED
        agent = read_agent(kit("play: scenario\naccept: {files: true}\n"))
        asked(private_app(agent, told, TABLE), "query.contribute")
        assert str(bait) in _OPENED

    def test_a_rehearsal_with_data_of_the_program_is_played(self, kit):
        group = [{"name": "anna", "behaviour": {"kind": "benign"}}]
        app = private_app(read_agent(kit("play: scenario\n")), scenario(agents=group), TABLE)
        assert len(arrays(asked(app, "query.contribute"))["y"]) > 100

    def test_what_a_contribution_holds_is_the_rows_and_nothing_else(self, kit):
        """Of behaviour, target, seed and file names nothing is in the reply."""
        agent = read_agent(kit(_backdoor()))
        app = private_app(agent, scenario(), TABLE)
        reply = asked(app, "query.contribute")
        assert set(reply) == {RECORD}
        told = b"".join(part.deflate() for part in get_all_nested_objects(reply).values())
        assert arrays(reply)["y"].tobytes() in told
        for secret in (str(SECRET["seed"]), "random_badnet", "backdoor", "data.npz"):
            assert secret.encode() not in told

    def test_an_attack_that_does_not_fit_is_not_told_to_the_server(self, kit):
        """The line for the server names no target; the owner's does."""
        agent = read_agent(kit(_backdoor(target=9)))
        message = _failing(private_app, agent, scenario(), TABLE)
        for line, own in message:
            assert "9" not in line
            assert "target" not in line
            assert "got 9" in own

    def test_unreadable_data_are_not_told_to_the_server(self, kit):
        folder = kit()
        agent = read_agent(folder)
        (folder / "data.npz").write_bytes(b"junk")
        ((line, own),) = _failing(private_app, agent, scenario(), TABLE)
        assert line == "anna cannot read its data"
        assert str(folder) in own

    def test_an_error_of_any_kind_is_told_by_its_kind_alone(self):
        error = ValueError("target 7 of /home/anna/data.npz")
        told = grpc_agent._explained(error, discreet=True)
        assert told[1] == "ValueError; its owner is told more"
        assert told[2] == "ValueError: target 7 of /home/anna/data.npz"
        assert grpc_agent._explained(error, discreet=False)[1] == told[2]

    def test_a_refusal_keeps_its_line_through_flowers_wrapping(self):
        outer = RuntimeError("wrapped")
        outer.__cause__ = AgreementRefused("anna does not play", "because of 7")
        assert grpc_agent._explained(outer, discreet=True) == (
            DECLINED,
            "anna does not play",
            "anna does not play (because of 7)",
        )


def _backdoor(target=SECRET["target"]):
    return (
        f"behaviour: {{kind: backdoor, poison_rate: 0.3, target: {target}, "
        f"trigger: {{kind: random_badnet}}}}\nseed: {SECRET['seed']}\n"
    )


def _failing(make, *args):
    """Return what server and owner are told of a game that cannot be played."""
    try:
        app = make(*args)
        asked(app, "query.contribute")
    except Exception as error:
        _, line, own = grpc_agent._explained(error, discreet=True)
        return [(line, own)]
    raise AssertionError("it can be played")


def test_the_kit_that_deploy_makes_is_read(tmp_path):
    from backfire.deployment.operations import init
    from small_deployments import plan

    made = init(tmp_path / "table", plan(agents=["anna"]))
    folder = made.kits / "anna"
    with pytest.raises(AgentFileError, match=r"data\.path: expected the private data there"):
        read_agent(folder)
    np.savez(folder / "data.npz", x_train=np.zeros((2, 8, 8, 1), np.float32), y_train=[0, 1])
    assert read_agent(folder).server == made.fleet
    assert Path(read_agent(folder).data.path) == folder / "data.npz"
