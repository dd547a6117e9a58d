"""Judges mutants: does a test fail that reaches the fault?

One process imports everything and collects all tests once. For each mutant it forks: the child
puts the fault in and runs the near tests, the first failure ends it. A mutant of what runs at
import is judged by a child that imports the changed file anew, from a process without our modules.
"""

import ast
import contextlib
import gc
import importlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from mutation.children import enter, in_child
from mutation.config import CACHE, ROOT, Config
from mutation.mutants import Mutant, mutated
from mutation.nearness import ordered, words
from mutation.swapping import changed, functions, swap

CONTROL = "Control"
_OPTIONS = ["-q", "-p", "no:cacheprovider", "--capture=no"]


@dataclass
class Verdict:
    """What came of a mutant.

    Attributes:
        mutant: The fault.
        verdict: ``killed``, ``time`` (it ran for so long that a test run notices) or ``survived``.
        by: The test that failed first.
        tests: Tests that ran.
        left_out: Near tests for which the budget had no room.
        seconds: CPU seconds of the tests.
    """

    mutant: Mutant
    verdict: str
    by: str = ""
    tests: int = 0
    left_out: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """Return it as a line of JSON."""
        told = {key: value for key, value in vars(self).items() if key != "mutant"}
        return json.dumps({**self.mutant.record(), **told})


@dataclass
class Judge:
    """A pytest plugin that, once all tests are collected, judges mutants in place of running them.

    Attributes:
        config: The configuration.
        tree: The copy of the repository.
        budget: CPU seconds of tests for each mutant.
        mutants: What to judge.
        tell: Told each verdict.
    """

    config: Config
    tree: Path
    budget: float
    mutants: Sequence[Mutant]
    tell: Callable[[Verdict], None]
    seconds: dict[str, float] = field(default_factory=dict)
    later: list[Mutant] = field(default_factory=list)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge what can be judged here; leave the rest in `later`."""
        ours = functions(self.tree)
        gc.collect()
        gc.freeze()  # so that a child's collections do not touch, and copy, what it shares
        for mutant in self.mutants:
            path = self.tree / mutant.file
            text = path.read_text()
            after = text if mutant.operator == CONTROL else mutated(mutant, text, self.config)
            pairs = [] if mutant.operator == CONTROL else changed(text, after, path)
            if pairs is None:
                self.later.append(mutant)
                continue
            items = ordered(session.items, mutant, text, self.seconds)

            def task(items: list[pytest.Item] = items, pairs: list = pairs) -> object:
                if pairs and not swap(pairs, ours):
                    return None
                return run(items, self.budget)

            self.hear(
                mutant, *in_child(task, self.tree.parent / "output.txt", 60 + 4 * self.budget)
            )
        return True

    def hear(self, mutant: Mutant, answer: object, ended: str) -> None:
        """Tell what a child answered."""
        if answer is None and not ended:
            self.later.append(mutant)
        elif not isinstance(answer, dict):
            self.tell(Verdict(mutant, "time" if ended == "time" else "killed", ended))
        else:
            seconds = answer.pop("each")
            self.seconds |= seconds
            self.tell(Verdict(mutant, seconds=round(sum(seconds.values()), 1), **answer))


def run(items: Sequence[pytest.Item], budget: float) -> dict:
    """Run tests until one fails or the budget is spent; called in a child."""
    failed: list[str] = []
    each: dict[str, float] = {}

    class Listener:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            failed.extend([report.nodeid] if report.failed else [])

    if items:
        items[0].config.pluginmanager.register(Listener())
    for at, item in enumerate(items):
        start = time.process_time()
        after = items[at + 1] if at + 1 < len(items) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        each[item.nodeid] = round(time.process_time() - start, 3)
        if failed or sum(each.values()) > budget:
            break
    verdict = "killed" if failed else "survived"
    by = failed[0] if failed else ""
    return {"verdict": verdict, "by": by, "tests": len(each), "left_out": len(items) - len(each),
            "each": each}  # fmt: skip


@dataclass
class Fresh:
    """A pytest plugin that runs the tests near one mutant, whose file is changed already."""

    mutant: Mutant
    text: str
    seconds: dict[str, float]
    budget: float
    answer: dict = field(default_factory=dict)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests that cannot be collected any more is a failure."""
        if report.failed and not self.answer:
            by = f"collection of {report.nodeid}"
            self.answer = {"verdict": "killed", "by": by, "tests": 0, "left_out": 0, "each": {}}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the near tests."""
        items = ordered(session.items, self.mutant, self.text, self.seconds)
        self.answer = self.answer or run(items, self.budget)
        return True


def judge(
    mutants: Sequence[Mutant],
    config: Config,
    tree: Path,
    budget: float,
    tell: Callable[[Verdict], None],
) -> None:
    """Judge mutants one after another, in a copy of the repository."""
    enter(tree)
    _quiet_hypothesis()
    kept = CACHE / "seconds.json"
    seconds = json.loads(kept.read_text()) if kept.exists() else {}
    here = Judge(config, tree, budget, mutants, tell, seconds)

    def serve() -> object:
        options = [*_OPTIONS, f"--basetemp={tree.parent}/temp", *config.test_files(tree)]
        code = pytest.main(options, plugins=[here])
        return {
            "code": int(code),
            "later": [mutant.record() for mutant in here.later],
            "seconds": here.seconds,
        }

    _serve_and_rest(here, serve)
    CACHE.mkdir(exist_ok=True)
    kept.write_text(json.dumps(here.seconds))


def _serve_and_rest(here: Judge, serve: Callable[[], object]) -> None:
    # The server is a child too: this process must not import our modules.
    answer, ended = in_child(serve, here.tree.parent / "server.txt", 10**6, wall=10**6)
    if not isinstance(answer, dict) or answer["code"]:
        said = (here.tree.parent / "server.txt").read_text()[-2000:]
        raise RuntimeError(f"the tests were not collected {ended}: {said}")
    here.seconds |= answer["seconds"]
    if answer["later"]:
        _import_libraries(here.config)
    for record in answer["later"]:
        mutant = Mutant(**record)
        path = here.tree / mutant.file
        text = path.read_text()
        try:
            path.write_text(mutated(mutant, text, here.config))
            task = Anew(here, mutant, text)
            here.hear(
                mutant, *in_child(task, here.tree.parent / "output.txt", 120 + 4 * here.budget)
            )
        finally:
            path.write_text(text)


@dataclass
class Anew:
    """The task of a child that imports everything anew."""

    judge: Judge
    mutant: Mutant
    text: str

    def __call__(self) -> object:
        """Collect the tests of the subject's package and of all that name the module."""
        plugin = Fresh(self.mutant, self.text, self.judge.seconds, self.judge.budget)
        options = [*_OPTIONS, f"--basetemp={self.judge.tree.parent}/temp", *self.files()]
        pytest.main(options, plugins=[plugin])
        return plugin.answer or {"verdict": "killed", "by": "collection", "tests": 0,
                                 "left_out": 0, "each": {}}  # fmt: skip

    def files(self) -> list[str]:
        """Return the test files that import the module, name it, or name its package."""
        file = Path(self.mutant.file)
        module, names = self.mutant.file.removesuffix(".py").replace("/", "."), {file.stem}
        texts = {name: Path(name).read_text() for name in self.judge.config.test_files(Path())}
        near = [name for name, text in texts.items() if module in text or names & words(text)]
        return near or [name for name in texts if f"/{file.parts[0]}/" in name]


def _quiet_hypothesis() -> None:
    """Draw the same examples each time, keep none, and do not shrink failures."""
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", database=None, derandomize=True, phases=phases)
    settings.load_profile("mutation")


def _import_libraries(config: Config) -> None:
    """Import what subjects and tests import of others, so that no child has to."""
    ours = {path.parent.name for path in ROOT.glob("*/*.py")} | {"tests", "mutation"}
    files = [ROOT / file for file in config.files() + config.test_files()]
    ours |= {path.stem for path in (ROOT / "tests").glob("*.py")}
    names = {name for path in files for name in _imported(path)}
    for name in sorted(names):
        if name.split(".")[0] not in ours:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found
