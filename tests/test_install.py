"""The wheel holds all that a training needs, in an empty environment and from another folder."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    kept = shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.egg-info", "build", "runs")
    shutil.copytree(ROOT, source, ignore=kept)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    made = run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    assert made.returncode == 0, made.stderr
    [wheel] = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    done = run(*pip, "--python", python, "install", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return environment / "bin"


def test_a_wheel_in_an_empty_environment_trains_from_another_folder(
    installed: Path, tmp_path: Path
) -> None:
    digits = ROOT / "scripts" / "data" / "digits.parquet"
    trained = run(
        installed / "dist-dnn", "train", digits, "--target", "digit", "--out", "run",
        "--epochs", "1", "--workers", "2", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    digest = run(installed / "dist-dnn", "digest", "run", cwd=tmp_path).stdout
    assert len(digest.strip()) == 64
    assert trained.stderr.splitlines()[-2] == f"digest {digest.strip()}"


def test_another_package_named_workers_is_one_clear_error(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    digits = ROOT / "scripts" / "data" / "digits.parquet"
    command = ["-m", "dist_dnn", "train", digits, "--target", "digit", "--out", "run"]
    done = run(installed / "python", *command, cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: the package 'workers' that Python finds is")
    assert not (tmp_path / "run").exists()
