"""Every mistake in a scenario is one line: file:line:column field: expected ..., got ..."""

import json
import re

import pytest

from learning.training.spec import TrainingSpec
from scenarios.loader import ScenarioError, load, parse
from scenarios.scenario import Scenario
from scenarios.text.errors import MAX_PROBLEMS
from scenarios.text.quoting import listing, nearest, printable, shown

BASE = """\
name: test
data: {kind: digits}
model: {kind: small_cnn}
training:
  epochs: 30
  optimizer: {kind: sgd, lr: 0.05}
defender_share: 0.4
agents:
  - name: honest
    behaviour: {kind: benign}
  - name: mallory
    count: 6
    behaviour:
      kind: backdoor
      poison_rate: 0.2
      target: distinct
      trigger: {kind: random_badnet, epsilon: 0.15, draw: per_agent}
defenders:
  undefended: []
  augmented: [{kind: agent_augmentation}]
referee:
  alone: 3
  adversarial: [{kind: pgd, norm: linf, epsilon: 8/255, steps: 20}]
seed: 0
"""


def lines(text, *overrides):
    with pytest.raises(ScenarioError) as caught:
        parse(text, "s.yaml", overrides)
    for line in caught.value.lines:
        assert line.isprintable()
    return list(caught.value.lines)


def changed(old, new):
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def test_the_base_is_valid():
    scenario = parse(BASE, "s.yaml")
    assert isinstance(scenario, Scenario)
    assert scenario.referee.adversarial[0].epsilon == 8 / 255
    assert [place.name for place in scenario.roster()] == [
        "honest", *(f"mallory-0{i}" for i in range(1, 7))
    ]  # fmt: skip


EPOCHS = "s.yaml:5:11 training.epochs: expected a whole number from 1 to 100000, got "
SHARE = "s.yaml:7:17 defender_share: expected a number from 0 to below 1, got "
ALONE = (
    "s.yaml:22:10 referee.alone: expected a whole number from 0 to 100000 or one of 'all', 'auto', "
    "got "
)
NAME = "s.yaml:11:11 agents[1].name: expected "
LABEL = "expected a whole number from 0 to 1000000, got "


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        # Wrong types and ranges; T38: a word or a quoted number is not a number, nor is `yes` true.
        ("epochs: 30", "epochs: thirty", EPOCHS + "'thirty'"),
        ("epochs: 30", "epochs: '30'", EPOCHS + "'30'"),
        ("epochs: 30", "epochs: 0", EPOCHS + "0"),
        ("epochs: 30", "epochs: 1.5", EPOCHS + "1.5"),
        ("epochs: 30", "epochs: true", EPOCHS + "true"),
        ("epochs: 30", "epochs: 12:30", EPOCHS + "'12:30'"),
        ("epochs: 30", "epochs: [1, 2]", EPOCHS + "a list of 2"),
        ("epochs: 30", "epochs: {a: 1}", EPOCHS + "a mapping"),
        ("epochs: 30", "epochs:", "s.yaml:5:10" + EPOCHS[11:] + "nothing"),
        ("share: 0.4", "share: 1.0", SHARE + "1.0"),
        ("share: 0.4", "share: 8/5", SHARE + "8/5"),
        ("share: 0.4", "share: 4e-1x", SHARE + "'4e-1x'"),
        ("share: 0.4", "share: -1e-9", SHARE + "-1e-9"),
        ("share: 0.4", "share: .nan",
         "s.yaml:7:17 defender_share: expected a finite number, got .nan"),
        ("alone: 3", "alone: some", ALONE + "'some'"),
        ("alone: 3", "alone: -1", ALONE + "-1"),
        ("alone: 3", "alone: true", ALONE + "true"),
        ("seed: 0", "seed: no",
         "s.yaml:24:7 seed: expected a whole number from 0 to 9223372036854775807, got 'no'"),
        ("seed: 0", "seed: 010", "s.yaml:24:7 seed: expected a number without leading zeros, "
         "got 010 (write 10, or '010' in quotes for text)"),
        ("seed: 0", "seed: 0\ncompute: {bfloat16: yes}",
         "s.yaml:25:21 compute.bfloat16: expected true or false, got 'yes'"),
        ("seed: 0", "seed: 0\ncompute: {bfloat16: 1}",
         "s.yaml:25:21 compute.bfloat16: expected true or false, got 1"),
        ("seed: 0", "seed: 0\ncompute: {together: maybe}",
         "s.yaml:25:21 compute.together: expected true or false or 'auto', got 'maybe'"),
        ("seed: 0", "seed: 0\ncompute: {device: gpu}", "s.yaml:25:19 compute.device: expected "
         "text such as auto, cpu, cuda, cuda:0, mps, got 'gpu'"),
        ("seed: 0", "seed: 0\ncompute: {threads: 0}",
         "s.yaml:25:20 compute.threads: expected a whole number from 1 to 1024 or null, got 0"),
        ("seed: 0", "seed: 0\ngame: poled",
         "s.yaml:25:7 game: expected one of 'pooled', 'federated', 'both', got 'poled'"),
        ("seed: 0", "seed: 0\npoison_count: {rounding: up}", "s.yaml:25:26 poison_count.rounding: "
         "expected one of 'nearest', 'floor', 'ceil', got 'up'"),
        # T39: unknown keys and kinds name the nearest.
        ("epochs: 30", "epocs: 30", "s.yaml:5:3 training.epocs: expected a field of training, "
         "got 'epocs' (did you mean 'epochs'?)"),
        ("seed: 0", "Seed: 0", "s.yaml:24:1 Seed: expected a field of a scenario, got 'Seed' "
         "(did you mean 'seed'?)"),
        ("count: 6", "size: 6", "s.yaml:12:5 agents[1].size: expected a field of agents[1], "
         "got 'size' (known: name, count, behaviour, update, window)"),
        ("epsilon: 0.15", "epsilom: 0.15", "s.yaml:17:38 agents[1].behaviour.trigger.epsilom: "
         "expected a field of agents[1].behaviour.trigger, got 'epsilom' "
         "(did you mean 'epsilon'?)"),
        ("{kind: benign}", "{kind: benign, <<: x}", "s.yaml:10:31 agents[0].behaviour.<<: "
         "expected a field of agents[0].behaviour, got '<<' (known: kind)"),
        ("kind: sgd", "kind: sdg", "s.yaml:6:21 training.optimizer.kind: expected one of adam, "
         "sgd, got 'sdg' (did you mean 'sgd'?)"),
        ("kind: sgd, lr", "betas: [0, 0], lr", "s.yaml:6:15 training.optimizer.betas: expected a "
         "field of training.optimizer, got 'betas' (known: kind, lr, momentum, nesterov, "
         "weight_decay)"),
        ("{kind: sgd, lr: 0.05}", "sgd", "s.yaml:6:14 training.optimizer: expected a mapping with "
         "a kind (one of adam, sgd), got 'sgd' (write {kind: sgd})"),
        ("target: distinct", "target: distnict", "s.yaml:16:15 agents[1].behaviour.target: "
         "expected one of fixed, random, distinct, shared, next, got 'distnict' "
         "(did you mean 'distinct'?)"),
        # Missing fields point at the mapping that lacks them.
        ("  - name: honest\n    behaviour", "  - behaviour",
         "s.yaml:9:5 agents[0].name: expected text of 1 to 64 characters, got nothing "
         "(name of the group; no two groups share one)"),
        ("name: test\n", "", "s.yaml:1:1 name: expected text of 1 to 64 characters, got nothing "
         "(name of the scenario; run folders carry it)"),
        ("target: distinct", "target: {kind: fixed}",
         f"s.yaml:16:15 agents[1].behaviour.target.label: {LABEL}nothing "
         "(the target label, from 0)"),
        ("target: distinct", "target: {kind: distinct, labels: [1, x]}",
         f"s.yaml:16:44 agents[1].behaviour.target.labels[1]: {LABEL}'x'"),
        # Names.
        ("name: mallory", "name: ''", NAME + "text of 1 to 64 characters, got ''"),
        ("name: mallory", "name: 3", NAME + "text of 1 to 64 characters, got 3"),
        ("name: mallory", 'name: "a\\u202eb"', NAME + "printable characters, got 'a\\u202eb'"),
        ("name: mallory", 'name: "a\\nb"', NAME + "printable characters, got 'a\\nb'"),
        ("name: mallory", f"name: {'x' * 99}",
         NAME + f"text of 1 to 64 characters, got '{'x' * 57}...'"),
        ("name: mallory", "name: honest", NAME + "a name of its own, got 'honest' again"),
        ("name: honest", "name: mallory-03",
         NAME + "a name of its own, got one that makes 'mallory-03' twice"),
        ("name: mallory\n    count: 6", "name: defender",
         NAME + "another name than that of the server, got 'defender'"),
        ("undefended: []", "'': []",
         "s.yaml:19:3 defenders.\"\": expected a name of 1 to 64 characters, got ''"),
        ("undefended: []", '"a\\nb": []',
         "s.yaml:19:3 defenders.\"a\\nb\": expected printable characters, got 'a\\nb'"),
        ("undefended: []", "undefended:",
         "s.yaml:19:14 defenders.undefended: expected a list, got nothing"),
        # Rules that no single field can state.
        ("defender_share: 0.4", "defender_share: 0", "s.yaml:7:17 defender_share: expected a "
         "share above 0 for the agent_augmentation of 'augmented', got 0"),
        ("[{kind: agent_augmentation}]", "[{kind: agent_indexing}, {kind: agent_indexing}]",
         "s.yaml:20:39 defenders.augmented[1]: expected one indexing defence at most, "
         "got agent_indexing as another"),
        ("[{kind: agent_augmentation}]", "[{kind: agent_indexing}, {kind: spectral_signatures}]",
         "s.yaml:20:39 defenders.augmented[1]: expected only hooks after an indexing defence, "
         "got spectral_signatures"),
        ("target: distinct", "target: 10", "s.yaml:16:15 agents[1].behaviour.target.label: "
         "expected a label from 0 to 9, got 10"),
        ("target: distinct", "target: {kind: distinct, labels: [3, 12]}",
         "s.yaml:16:44 agents[1].behaviour.target.labels[1]: expected a label from 0 to 9, got 12"),
        ("poison_rate: 0.2", "source: 10",
         "s.yaml:15:15 agents[1].behaviour.source: expected a label from 0 to 9, got 10"),
        ("epochs: 30", "early_stopping: {}", "s.yaml:5:19 training.early_stopping.monitor: "
         "expected train_loss, or a validation_share above 0, got validation_loss"),
        ("count: 6", "count: 100000",
         "s.yaml:9:3 agents: expected at most 100000 agents in all, got 100001"),
        # What is not YAML, or not ours.
        ("seed: 0", "seed: 0\nseed: 1",
         "s.yaml:25:1: expected each key once, got 'seed' again (first in line 24)"),
        ("{kind: benign}", "*benign", "s.yaml:10:16 agents[0].behaviour: expected no alias, "
         "got '*benign'"),
        ("{kind: benign}", "!!python/object/apply:os.system [id]", "s.yaml:10:16 "
         "agents[0].behaviour: expected no tag, got '!!python/object/apply:os.system'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(old, new, line):
    assert lines(changed(old, new)) == [line]


# T41
def test_a_dotted_path_imports_nothing():
    (line,) = lines(changed("kind: benign", "kind: os.system"))
    assert line.startswith("s.yaml:10:23 agents[0].behaviour.kind: expected one of back_gradient, ")
    assert line.endswith(", got 'os.system'")


def test_labels_are_checked_where_the_classes_are_known():
    text = changed("target: distinct", "target: {kind: shared, label: 0, share: 0.5, others: [9]}")
    parse(text, "s")
    parse(text, "s", ["data={kind: npz, path: x.npz}", "agents.mallory.behaviour.source=99"])
    (line,) = lines(text, "data={kind: synthetic, classes: 9}")
    assert line == (
        "s.yaml:16:61 agents[1].behaviour.target.others[0]: expected a label from 0 to 8, got 9"
    )
    with pytest.raises(ScenarioError):
        parse(text, "s", ["data={kind: mnist, root: x}", "agents.mallory.behaviour.source=10"])
    parse(text, "s", ["data={kind: cifar100, root: x}", "agents.mallory.behaviour.source=99"])


def test_an_indexing_defence_may_be_followed_by_hooks():
    parse(changed("[{kind: agent_augmentation}]", "[{kind: agent_indexing}, {kind: cutmix}]"), "s")


def test_an_unknown_kind_lists_what_there_is():
    (line,) = lines(changed("{kind: digits}", "{kind: digts}"))
    assert line.startswith("s.yaml:2:14 data.kind: expected one of ")
    assert "digits, " in line
    assert line.endswith("got 'digts' (did you mean 'digits'?)")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "s.yaml:1:1: expected a mapping, got an empty file"),
        ("[]", "s.yaml:1:1: expected a mapping, got an empty list"),
        ("hello", "s.yaml:1:1: expected a mapping, got 'hello'"),
        ("a: [", "s.yaml:1:5: expected valid YAML, got: while parsing a flow node, expected the "
         "node content, but found '<stream end>'"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_at_all(text, line):
    assert lines(text) == [line]


def test_all_mistakes_are_told_in_the_order_of_the_file():
    text = changed("epochs: 30", "epochs: x").replace("seed: 0", "seed: x").replace("0.15", "x")
    assert [line.split(" ")[0] for line in lines(text)] == [
        "s.yaml:5:11", "s.yaml:17:47", "s.yaml:24:7"
    ]  # fmt: skip


def test_many_mistakes_are_cut_short():
    text = BASE + "".join(f"x{i}: 1\n" for i in range(50))
    found = lines(text)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "s.yaml: and 30 more problems"
    found = lines(BASE + "".join(f"x{i}: 1\n" for i in range(1000)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "s.yaml: and 980 more problems"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["agents[1].count=ten"],
         "--set agents[1].count: expected a whole number from 1 to 100000, got 'ten'"),
        (["agents.1.count=0"],
         "--set agents[1].count: expected a whole number from 1 to 100000, got 0"),
        (["agents.mallory.behaviour.poison_rate=2"],
         "--set agents[1].behaviour.poison_rate: expected a number from 0 to 1, got 2"),
        (["agents.malory.count=4"], "--set agents.malory.count: expected the position or name of "
         "an item, got 'malory' (did you mean 'mallory'?)"),
        (["agents[2].count=4"],
         "--set agents[2].count: expected a position from 0 to 1, got 2"),
        (["defenders.undefended[0].kind=x"], "--set defenders.undefended[0].kind: expected an "
         "item of an empty list, got 0"),
        (["trainig.epochs=3"], "--set trainig: expected a field of a scenario, got 'trainig' "
         "(did you mean 'training'?)"),
        (["compute.devise=cpu"], "--set compute.devise: expected a field of compute, got "
         "'devise' (did you mean 'device'?)"),
        (["seed.x=1"], "--set seed.x: expected a mapping at seed, got 0"),
        (["name[0]=1"], "--set name[0]: expected a list at name, got 'test'"),
        (["seed=[1"], "--set seed: expected valid YAML, got: while parsing a flow sequence, "
         "expected ',' or ']', but got '<stream end>'"),
        (["seed=*x"], "--set seed: expected no alias, got '*x'"),
        (["seed=010"], "--set seed: expected a number without leading zeros, got 010 "
         "(write 10, or '010' in quotes for text)"),
        (["seed"], "--set: expected path=value, got 'seed'"),
        (["=1"], "--set: expected path=value, got '=1'"),
        (["a]b=1"], "--set a]b: expected a path like agents[1].count, got 'a]b'"),
        (["\x1b[31m=1"], "--set \\x1b[31m: expected a path like agents[1].count, got "
         "'\\x1b[31m'"),
        (["seed="], "--set seed: expected a whole number from 0 to 9223372036854775807, "
         "got nothing"),
        (["agents.mallory={name: mallory, behaviour: {kind: benig}}"], None),
    ],
)  # fmt: skip
def test_mistakes_of_set(overrides, line):
    (found,) = lines(BASE, *overrides)
    if line is None:
        assert found.startswith("--set agents[1].behaviour.kind: expected one of ")
        assert found.endswith("got 'benig' (did you mean 'benign'?)")
    else:
        assert found == line


def test_set_changes_the_game_and_later_ones_win():
    scenario = parse(
        BASE,
        "s.yaml",
        [
            "agents.mallory.count=2",
            "agents[0].name=anna",
            "training.epochs=5",
            "training.epochs=7",
            "compute={device: cpu}",
            "compute.threads=1",
            "defenders.mixed=[{kind: mixup}]",
            'defenders."with.dot"=[]',
            "referee.adversarial[0].epsilon=1/4",
            "referee.alone=all",
        ],
    )
    assert [place.name for place in scenario.roster()] == ["anna", "mallory-01", "mallory-02"]
    assert scenario.training.epochs == 7
    assert (scenario.compute.device, scenario.compute.threads) == ("cpu", 1)
    assert list(scenario.defenders) == ["undefended", "augmented", "mixed", "with.dot"]
    assert scenario.referee.adversarial[0].epsilon == 0.25
    assert scenario.referee.alone == "all"


def test_a_mistake_elsewhere_keeps_its_place_in_the_file():
    assert lines(changed("epochs: 30", "epochs: x"), "seed=1") == [EPOCHS + "'x'"]


def test_the_resolved_scenario_is_the_same_scenario():
    scenario = parse(BASE, "s.yaml")
    for text in (json.dumps(scenario.resolved()), json.dumps(scenario.resolved(), indent=2)):
        again = parse(text, "resolved")
        assert again == scenario
        assert again.digest() == scenario.digest()


def test_the_digest_tells_games_apart_and_ignores_what_is_no_part_of_the_game():
    digest = parse(BASE, "s").digest()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert parse(BASE, "s", ["seed=1"]).digest() != digest
    assert parse(BASE, "s", ["agents.mallory.count=7"]).digest() != digest
    assert parse(BASE, "s", ["compute.device=cpu", "description=x"]).digest() == digest
    assert parse(BASE, "s", ["compute.threads=2", "compute.together=false"]).digest() == digest
    assert parse(BASE, "s", ["compute.bfloat16=true"]).digest() != digest


PATCH = "trigger: {kind: patch, "
POSITION = "agents[1].behaviour.trigger.position[1]: expected a whole number from 0 to "


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ("colour: [255]}",
         "s.yaml:17:39 agents[1].behaviour.trigger.colour[0]: expected a number from 0 to 1, "
         "got 255"),
        ("colour: [red, 0]}",
         "s.yaml:17:39 agents[1].behaviour.trigger.colour[0]: expected a number from 0 to 1, "
         "got 'red'"),
        ("position: [5, -1]}", "s.yaml:17:44 " + POSITION + "100000, got -1"),
        ("position: [5]}", "s.yaml:17:40 " + POSITION + "100000, got nothing"),
        # Where no branch's type fits, all are told.
        ("colour: 1}",
         "s.yaml:17:38 agents[1].behaviour.trigger.colour: expected 'random' or a list of 1 to 64 "
         "items, got 1"),
        ("colour: []}",
         "s.yaml:17:38 agents[1].behaviour.trigger.colour: expected 'random' or a list of 1 to 64 "
         "items, got an empty list"),
    ],
)  # fmt: skip
def test_of_a_union_the_branch_whose_type_fits_is_told(new, line):
    """Case misleading-shape: 255 in a colour, not "a list of 1 to 64 items, got a list of 1"."""
    assert lines(changed("trigger: {kind: random_badnet, epsilon: 0.15, draw: per_agent}",
                         PATCH + new)) == [line]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "data", "line"),
    [
        ("-1", "digits}", "16:15 agents[1].behaviour.target: expected a label from 0 to 9, got -1"),
        ("{kind: distinct, labels: [-1]}", "digits}",
         "16:41 agents[1].behaviour.target.labels[0]: expected a label from 0 to 9, got -1"),
        # What is not known before the data are read is not claimed.
        ("-1", "npz, path: x.npz}",
         "16:15 agents[1].behaviour.target: expected a whole number from 0 to 1000000, got -1"),
    ],
)  # fmt: skip
def test_a_label_below_zero_is_told_as_one_above_the_last_is(target, data, line):
    """Case misleading-shape: a target of -1 is answered like one of 10."""
    text = changed("target: distinct", f"target: {target}").replace(
        "{kind: digits}", f"{{kind: {data}"
    )
    assert lines(text) == [f"s.yaml:{line}"]


def test_the_only_item_being_wrong_does_not_make_its_list_too_short():
    """Case false-length-error."""
    text = (
        "name: t\ndata: {kind: digits}\nmodel: {kind: softmax}\n"
        "agents: [{name: m, behaviour: {kind: backdoor, target: 0, trigger: {kind: pach}}}]\n"
        "defenders: {u: []}\n"
    )
    (line,) = lines(text)
    assert line.startswith("s.yaml:4:75 agents[0].behaviour.trigger.kind: expected one of ")
    assert line.endswith("got 'pach' (did you mean 'patch'?)")
    # A list that is too short is still told.
    assert lines(text, "agents=[]") == [
        "--set agents: expected a list of 1 to 10000 items, got an empty list"
    ]
    (line,) = lines(text.replace("pach", "patch"), "defenders={u: [{kind: cutmixx}]}")
    assert line.endswith("got 'cutmixx' (did you mean 'cutmix'?)")


def test_set_changes_one_field_of_a_block_that_the_file_leaves_to_its_default():
    """Case learning-rate-path."""
    text = changed("  optimizer: {kind: sgd, lr: 0.05}\n", "")
    usual = parse(text, "s").training.optimizer
    changed_one = parse(text, "s", ["training.optimizer.lr=0.01"]).training.optimizer
    assert changed_one == usual.model_copy(update={"lr": 0.01})
    assert usual.lr != 0.01
    # The kind may be set beside it, before or after.
    both = ["training.optimizer.kind=adam", "training.optimizer.beta1=0.5"]
    for order in (both, both[::-1]):
        assert parse(text, "s", order).training.optimizer.beta1 == 0.5
    deeper = ["game=federated", "defenders={mean: [{kind: mean}]}"]
    server = parse(text, "s", [*deeper, "federation.server_optimizer.lr=0.5"])
    assert server.federation.server_optimizer.lr == 0.5
    # A block that is there keeps what it is.
    assert parse(BASE, "s", ["training.optimizer.momentum=0"]).training.optimizer.lr == 0.05


def test_set_of_the_default_is_the_game_that_it_was():
    text = changed("  optimizer: {kind: sgd, lr: 0.05}\n", "")
    same = parse(text, "s", ["training.optimizer.lr=0.05"])
    assert same.digest() == parse(text, "s").digest()


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("training.lr=0.01", "(did you mean training.optimizer.lr?)"),
        ("lr=0.01", "(did you mean training.optimizer.lr?)"),
        ("training.rounds=3", "(did you mean federation.rounds?)"),
        ("agents.mallory.poison_rate=0.1", "(did you mean agents[1].behaviour.poison_rate?)"),
        ("training.optimizer.beta1=0.5", "(a field of kind: adam)"),
        # A name that lies nowhere gets the known ones; one almost right the nearest.
        ("training.zzz=1", "(known: epochs, batch_size, optimizer, schedule, label_smoothing, "
         "validation_share, early_stopping, augment)"),
        ("training.epoch=1", "(did you mean 'epochs'?)"),
    ],
)  # fmt: skip
def test_a_field_in_the_wrong_place_is_told_where_it_lies(override, hint):
    """Case learning-rate-path: training.lr."""
    (line,) = lines(BASE, override)
    assert line.endswith(hint)


def test_what_a_missing_field_is_for_is_told_with_how_to_write_it():
    """Case mnist-root."""
    (line,) = lines(BASE, "data={kind: mnist}")
    assert line.startswith("--set data.root: expected text such as data, got nothing (folder of ")
    assert (
        "with `download: true` they are fetched into it, as in root: data, download: true" in line
    )
    parse(BASE, "s", ["data={kind: mnist, root: data, download: true}"])


def test_files_are_named_in_messages(tmp_path):
    path = tmp_path / "näme.yaml"
    path.write_text(changed("seed: 0", "seed: x"), encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert caught.value.lines[0].startswith(f"{path}:24:7 seed: ")
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path / "absent.yaml")
    assert caught.value.lines == (
        f"{tmp_path}/absent.yaml: expected a file that can be read, got: No such file or directory",
    )


# T43
def test_foreign_text_cannot_steer_a_terminal():
    assert printable("a\x1b[31m\n\u202e\ud800é") == "a\\x1b[31m\\n\\u202e\\ud800é"
    assert printable("x" * 100, 10) == "xxxxxxx..."
    assert shown("a'b\n") == "'a'b\\n'"
    assert shown([1, 2]) == "a list of 2"
    assert shown({}) == "an empty mapping"
    assert shown(None) == "nothing"
    assert listing(["a", "b\n", "c"], 2) == "a, b\\n, and 1 more"
    assert nearest("Sgd", ["adam", "sgd"]) == " (did you mean 'sgd'?)"
    assert nearest("zzz", ["adam", "sgd"]) == ""


def test_a_block_without_a_kind_keeps_its_defaults_kind_and_values():
    text = changed("kind: sgd, lr: 0.05", "momentum: 0.5")
    training = parse(text, "s.yaml").training
    assert training.optimizer == TrainingSpec().optimizer.model_copy(update={"momentum": 0.5})


def test_a_kind_that_is_called_otherwise_now_says_so():
    with pytest.raises(ScenarioError, match=r"got 'by_class' \(it is called shards, and its"):
        parse(BASE + "partition: {kind: by_class, classes_per_agent: 1}\n", "s.yaml")
