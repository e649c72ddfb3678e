"""What several tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clusters import wheels
from runs import After, Ending, interrupt

from dist_dnn.arithmetic import one_blas_thread


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Groups made without ``launch.run`` need the BLAS pinned all the same."""
    with one_blas_thread():
        yield


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> After:
    """``after(steps, end)`` has the next trainings call ``end`` after so many of their steps."""

    def arrange(steps: int, end: Callable[[], object] = interrupt) -> None:
        monkeypatch.setattr("dist_dnn.front.api.make_progress", lambda _: Ending(steps, end))

    return arrange


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels that clusters install from."""
    return wheels(tmp_path_factory.mktemp("wheels"))
