"""The house: imports point one way, rooms keep their libraries, and names load lazily."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dist_dnn

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for folder in ("dist_dnn", "workers", "scripts") for path in (ROOT / folder).rglob("*.py")
)


def room(module: str) -> int:
    """The height of a module's room: imports may only go to the same room or a lower one."""
    for height, prefix in enumerate(("dist_dnn.nn", "dist_dnn", "workers", "dist_dnn.front")):
        if prefix == "dist_dnn" and module.startswith("dist_dnn.front"):
            continue
        if module == prefix or module.startswith(prefix + "."):
            return height
    return 4


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports, wherever in it, but for type checking's sake too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    module = module_of(path)
    if module in ("dist_dnn", "dist_dnn.__main__"):  # the doors, which name what is in the front
        return
    ours = {name for name in imports_of(path) if name.split(".")[0] in ("dist_dnn", "workers")}
    assert all(room(name) <= room(module) for name in ours), ours


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_keep_their_libraries(path: Path) -> None:
    module, tops = module_of(path), {name.split(".")[0] for name in imports_of(path)}
    if module.startswith("dist_dnn.nn"):
        outside = tops - set(sys.stdlib_module_names) - {"numpy", "dist_dnn"}
        assert not outside
    if not module.startswith(("workers", "scripts")):
        assert not tops & {"ray", "mpi4py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_its_purpose_in_its_first_line(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].strip()


def test_importing_the_package_imports_nothing_by_itself() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, dist_dnn; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.split()
    assert not {"numpy", "pyarrow", "workers", "dist_dnn.front"} & set(loaded)


def test_every_public_name_loads() -> None:
    for name in dist_dnn.__all__:
        assert getattr(dist_dnn, name).__name__ == name
    assert set(dist_dnn.__all__) <= set(dir(dist_dnn))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dist_dnn.nothing
