"""The structure of the house holds: imports run downwards, nothing unsafe, nothing global."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import rooms

ROOT = Path(__file__).parents[1]
# From the ground floor up; a package may import itself and those before it.
FLOORS = ("learning", "scenarios", "strategies", "clients", "server", "backfire")
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_run_downwards(path):
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = imports(path) & set(FLOORS[floor + 1 :])
    assert not above, f"{name(path)} imports {sorted(above)} from above"


HOUSE = rooms.modules(ROOT, FLOORS)
ARROWS = rooms.arrows(HOUSE)
PACKAGES = ["", *sorted(name for name, path in HOUSE.items() if path.stem == "__init__")]
# What a reader takes in at a glance.
CROWD = 15


@pytest.mark.parametrize("package", PACKAGES)
def test_no_imports_run_in_a_circle(package):
    assert not rooms.circles(rooms.inside(package, ARROWS))


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_no_room_is_overfull(package):
    methods = frozenset(
        path.stem
        for name, path in HOUSE.items()
        if name.rpartition(".")[0] == package and "kind: Literal[" in path.read_text()
    )
    there = rooms.crowd(HOUSE[package].parent, methods)
    assert len(there) <= CROWD, f"{package} holds {len(there)} modules: {', '.join(there)}"


def test_no_class_name_stands_twice():
    places = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name(path))
    assert not {one: there for one, there in places.items() if len(there) > 1}


def test_a_circle_and_an_arrow_back_up_would_be_seen():
    drawn = {
        "a.x": frozenset({"b.y"}),
        "b.y": frozenset({"c"}),
        "b.z": frozenset({"a.w"}),
        "c": frozenset(),
    }
    assert rooms.circles(rooms.inside("", drawn)) == [["a", "b"]]
    assert not rooms.circles(rooms.inside("b", drawn))
    assert rooms.circles({"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset()}) == []


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


BANNED = {
    "eval", "exec", "torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "np.random.seed", "random.seed", "torch.manual_seed", "torch.seed", "os.system",
}  # fmt: skip
GLOBAL_DRAWS = ("np.random.", "numpy.random.")
GENERATORS = {"Generator", "Philox", "SeedSequence", "RandomState", "PCG64"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_unsafe_loading_and_no_global_randomness(path):
    assert not imports(path) & {"pickle", "cloudpickle", "dill", "marshal", "shelve", "random"}
    for called, node in calls(path):
        seeded_scope = called == "torch.manual_seed" and "fork_rng" in path.read_text()
        assert called not in BANNED or seeded_scope, f"{name(path)}:{node.lineno} {called}"
        if called.startswith(GLOBAL_DRAWS):
            assert called.rsplit(".", 1)[-1] in GENERATORS, f"{name(path)}:{node.lineno} {called}"
        pickled = [k for k in node.keywords if k.arg == "allow_pickle"]
        assert all(getattr(k.value, "value", True) is False for k in pickled)


def test_flowers_private_names_live_in_one_folder():
    private = {path for path in SOURCES if name(path).startswith("backfire/runtimes/flower/")}
    assert private
    public = ("flwr.app", "flwr.serverapp", "flwr.clientapp", "flwr.simulation")
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            for module in modules:
                if module.startswith("flwr.") and path not in private:
                    assert module in public, f"{name(path)} uses {module}"


def test_help_needs_no_torch():
    code = (
        "import sys; sys.argv=['backfire','--help']\n"
        "import backfire.cli.main\n"
        "assert 'torch' not in sys.modules, 'torch is imported for --help'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_no_file_is_large_and_none_names_a_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for file in tracked:
        path = ROOT / file
        if not path.exists():
            continue
        assert path.stat().st_size <= 2**20, f"{file} is larger than 1 MiB"
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".json"}:
            text = path.read_text(errors="ignore")
            assert "/" + "work/" not in text, f"{file} names a machine path"
            assert "/" + "root/" not in text, f"{file} names a machine path"
