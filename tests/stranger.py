"""Installs a package of somebody else's, by hand, into a folder that is on the path."""

from pathlib import Path


def install(folder: Path, name: str, files: dict[str, str], points: dict[str, dict[str, str]]):
    """Write a package and its metadata as an installer would.

    Args:
        folder: Where it is installed; must be on ``sys.path``.
        name: Of the distribution; its version is 1.2.
        files: Text by path.
        points: By group, the entry points: what they name, by name.
    """
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [
        line
        for group, named in points.items()
        for line in (f"[{group}]", *(f"{point} = {value}" for point, value in named.items()), "")
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return info
