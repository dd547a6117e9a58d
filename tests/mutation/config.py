"""The configuration, read from mutation.toml."""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".mutation"


@dataclass(frozen=True)
class Config:
    """See mutation.toml."""

    subjects: list[str]
    tests: list[str]
    seed: int
    count: int
    controls: int
    budget: float
    operators: list[str]
    swaps: dict[str, str]
    options: dict[str, list[str]]

    def files(self, root: Path = ROOT) -> list[str]:
        """Return the subjects, relative to the root."""
        found = {path for glob in self.subjects for path in root.glob(glob)}
        return sorted(path.relative_to(root).as_posix() for path in found)

    def test_files(self, root: Path = ROOT) -> list[str]:
        """Return the test files that import a subject, relative to the root."""
        modules = {file.removesuffix(".py").replace("/", ".") for file in self.files(root)}
        found = {root / name for name in self.tests if name.endswith(".py")}
        for folder in self.tests:
            files = (root / folder).rglob("test_*.py")
            found |= {path for path in files if _imported(path) & modules}
        return sorted(path.relative_to(root).as_posix() for path in found)


def _imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def configured(path: Path = HERE / "mutation.toml") -> Config:
    """Read the configuration."""
    return Config(**tomllib.loads(path.read_text()))
