"""What several tests share."""

from collections.abc import Iterator

import pytest

from dist_dnn.arithmetic import one_blas_thread


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Groups made without ``launch.run`` need the BLAS pinned all the same."""
    with one_blas_thread():
        yield
