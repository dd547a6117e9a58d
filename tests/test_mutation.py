"""`python tests/mutation`: its mutants are fair, its faults arrive, its ledger holds."""

import types
from dataclasses import replace

import pytest

from mutation.config import ROOT, configured
from mutation.ledger import KEY, equivalents
from mutation.swapping import changed, functions, swap

TEXT = '''
"""Sums 1 + 1."""
from dataclasses import dataclass

LIMIT = 3


@dataclass(frozen=True)
class Box:
    size: "int | None" = None

    def room(self, taken: "int | float" = 0) -> "int | None":
        """Return 1 - 1."""
        if taken > LIMIT:
            raise ValueError(f"at most {LIMIT + 1}")
        return max(self.size - taken, 0)


def total(x):
    return x.sum(axis=1) + 2
'''


@pytest.fixture
def repository(tmp_path):
    pytest.importorskip("cosmic_ray", reason="needs the extra `mutation`")
    (tmp_path / "box.py").write_text(TEXT)
    return tmp_path, replace(configured(), subjects=["*.py"])


def everything(repository, seed=1, count=10**6):
    from mutation.mutants import sample

    root, config = repository
    return sample(config, root, count, seed)


def test_text_annotations_and_arguments_of_dataclass_have_no_mutants(repository):
    lines = {mutant.before for mutant in everything(repository)}
    assert lines == {
        "LIMIT = 3",
        "@dataclass(frozen=True)",  # taken away whole
        "def room(self, taken: \"int | float\" = 0) -> \"int | None\":",
        "if taken > LIMIT:",
        "return max(self.size - taken, 0)",
        "return x.sum(axis=1) + 2",
    }  # fmt: skip
    frozen = [m for m in everything(repository) if "dataclass" in m.before]
    assert all(mutant.operator == "RemoveDecorator" for mutant in frozen)


def test_a_place_gives_one_mutant_and_the_seed_says_which(repository):
    drawn = everything(repository)
    assert everything(repository) == drawn
    assert {tuple(vars(m).values()) for m in everything(repository, seed=2)} != {
        tuple(vars(m).values()) for m in drawn
    }
    assert everything(repository, count=3) == drawn[:3]
    places = [(m.line, m.before) for m in drawn if m.before.startswith("return max")]
    assert len(places) == 3  # max, -, 0


def test_code_that_moved_keeps_its_mutants(repository):
    drawn = everything(repository)
    root, _ = repository
    (root / "box.py").write_text("import math\n\n" + TEXT)
    moved = everything(repository)
    assert [(m.where, m.before, m.after) for m in moved] == [
        (m.where, m.before, m.after) for m in drawn
    ]
    assert {m.line for m in moved} == {m.line + 2 for m in drawn}


def test_every_mutant_differs_and_compiles(repository):
    from mutation.mutants import mutated

    for mutant in everything(repository):
        text = mutated(mutant, TEXT, repository[1])
        assert text != TEXT
        compile(text, "box.py", "exec")


def test_our_operators_do_what_their_examples_say():
    pytest.importorskip("cosmic_ray", reason="needs the extra `mutation`")
    from cosmic_ray.mutating import mutate_code

    from mutation.swaps import DropOption, SwapCall

    for kind in (SwapCall, DropOption):
        for example in kind.examples():
            operator = kind(**example.operator_args)
            after = mutate_code(example.pre_mutation_code, operator, example.occurrence)
            assert after == example.post_mutation_code


def loaded(path, text=TEXT):
    module = types.ModuleType(__name__)
    exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102
    return module


def test_a_fault_arrives_in_functions_that_are_imported_already(tmp_path):
    path = tmp_path / "box.py"
    module = loaded(path)
    room = module.Box(5).room
    after = TEXT.replace("self.size - taken", "self.size + taken")
    assert swap(changed(TEXT, after, path), functions(tmp_path)) == 1
    assert room(2) == 7
    assert module.total.__code__ == loaded(path).total.__code__


@pytest.mark.parametrize(
    ("before", "after"), [("LIMIT = 3", "LIMIT = 4"), ("= 0)", "= 1)"), ("=True", "=False")]
)
def test_a_fault_in_what_runs_at_import_is_left_to_a_fresh_process(tmp_path, before, after):
    assert changed(TEXT, TEXT.replace(before, after), tmp_path / "box.py") is None


@pytest.mark.parametrize("key", equivalents(), ids=lambda key: f"{key[0]}:{key[2][:40]}")
def test_each_survivor_that_is_called_equivalent_is_still_there_and_has_a_reason(key):
    entry = dict(zip(KEY, key, strict=True))
    text = (ROOT / entry["file"]).read_text()
    lines = [line.strip() for line in text.splitlines()]
    assert all(line in lines for line in entry["before"].splitlines()), "mend survivors.toml"
    assert len(equivalents()[key].split()) >= 4
