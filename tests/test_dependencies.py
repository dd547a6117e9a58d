"""Whatever is imported is declared in pyproject.toml, and whatever is declared is imported."""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("backfire", "server", "clients", "strategies", "scenarios", "learning")
# Extras that bring tools; the product runs without them and imports nothing of theirs.
TOOLS = ("docs", "mutation", "test")
OURS = {*PACKAGES, "benchmarks", "tests", "mutation"}
OURS |= {path.stem for path in (ROOT / "tests").rglob("*.py")}
# Distributions that are not called what is imported; the others are.
CALLED = {
    "PIL": "pillow",
    "art": "adversarial-robustness-toolbox",
    "grpc": "grpcio",
    "mlflow": "mlflow-skinny",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Run as programs, extend one that is imported, or hold types for mypy.
NOT_IMPORTED = {
    "ipykernel",
    "mypy",
    "pytest-cov",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
    "types-pyyaml",
}


def distribution(package):
    return re.sub(r"[-_.]+", "-", CALLED.get(package, package)).lower()


def declared(*extras):
    asked = [*PROJECT["dependencies"]] if "" in extras else []
    for extra in extras:
        asked += PROJECT["optional-dependencies"].get(extra, [])
    return {distribution(Requirement(line).name) for line in asked}


BASE = declared("")
EXTRAS = declared(*(set(PROJECT["optional-dependencies"]) - set(TOOLS)))


def waits(node):
    """Return whether what stands in a node is imported by a call only, or by mypy only."""
    typed = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return typed or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def imported(text):
    """Yield what a file imports from other distributions, and whether only when it is needed.

    What is asked for by `import_module` or `importorskip` with a name that stands there counts.
    """
    tree = ast.parse(text)
    late = {inner for node in ast.walk(tree) if waits(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            names = [node.args[0].value] if called in ("import_module", "importorskip") else []
        for name in names:
            package = name.split(".")[0]
            if package not in OURS and package not in sys.stdlib_module_names:
                yield distribution(package), node in late


def undeclared(text, now, later):
    """Return the distributions that a file imports though they need not be there."""
    return {name for name, late in imported(text) if name not in (later if late else now)}


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_the_product_imports_what_it_declares_and_extras_only_when_needed():
    wrong = {name(path): undeclared(path.read_text(), BASE, BASE | EXTRAS) for path in
             files(*PACKAGES)}  # fmt: skip
    assert {path: names for path, names in wrong.items() if names} == {}


def test_the_tests_import_what_their_extras_bring():
    now = declared("", "test")
    later = now | EXTRAS | {"byzfl"}  # byzfl is compared with where somebody has it
    wrong = {}
    for path in files("tests", "benchmarks"):
        mutates = "mutation" in path.parts or path.stem == "test_mutation"
        more = declared("mutation") if mutates else set()
        wrong[name(path)] = undeclared(path.read_text(), now | more, later | more)
    assert {path: names for path, names in wrong.items() if names} == {}


def test_nothing_is_declared_that_nobody_imports():
    found = defaultdict(set)
    for path in files(*PACKAGES, "tests", "benchmarks"):
        for package, _ in imported(path.read_text()):
            found["product" if path.parts[len(ROOT.parts)] in PACKAGES else "tests"].add(package)
    # PyTorch's own writer imports it.
    assert (BASE | EXTRAS) - found["product"] == {"tensorboard"}
    assert declared("test", "mutation") - NOT_IMPORTED <= found["tests"] | found["product"]


def test_each_import_comes_from_the_distribution_that_is_declared():
    there = packages_distributions()
    installed = {one.lower() for names in there.values() for one in names}
    for package, called in CALLED.items():
        if called in installed:
            assert called in [one.lower() for one in there[package]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import httpx\nimport os\nfrom server.app import app", set()),
        ("import wandb", {"wandb"}),  # an extra, at once
        ("def log():\n    import wandb", set()),
        ("def log():\n    import requests.sessions", {"requests"}),
        ("def log():\n    importlib.import_module('requests')", {"requests"}),
        ("from PIL import Image\nfrom . import base", set()),
        ("if TYPE_CHECKING:\n    from pluggy import Hook", {"pluggy"}),
        ("if TYPE_CHECKING:\n    import wandb", set()),  # only mypy imports it
    ],
)
def test_an_import_without_a_declaration_is_found(text, found):
    assert undeclared(text, BASE, BASE | EXTRAS) == found
