"""What the README shows does what it says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_python_examples_run(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(EXAMPLES[number], f"README.md, example {number}", "exec"), {})
    assert capsys.readouterr().out


def test_the_shapes_example_prints_every_shape(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[-1], "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "W {1: (32, 64), 2: (10, 32)}"
    assert printed[3] == "A {0: (64, 5), 1: (32, 5), 2: (10, 5)}"
    assert printed[-1] == "db {1: (32, 1), 2: (10, 1)}"


def test_every_link_leads_somewhere() -> None:
    for path in ROOT.rglob("*.md"):
        if any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            continue
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path}: {link}"
