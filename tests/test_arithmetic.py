"""One arithmetic: what is compared between driver and workers, and one BLAS thread."""

import numpy as np
import pytest

from dist_dnn.arithmetic import ONE_THREAD, arithmetic, blas_libraries, one_blas_thread, probe
from dist_dnn.errors import RunError
from workers.group import check_same_arithmetic


def test_the_probe_repeats_and_tells_another_tanh(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe()
    assert before == probe()
    monkeypatch.setattr(np, "tanh", lambda x: np.arctan(x))
    assert probe() != before


def test_one_thread_is_used_inside_the_context() -> None:
    with one_blas_thread():
        assert {library["threads"] for library in blas_libraries()} == {1}
    assert ONE_THREAD["OPENBLAS_NUM_THREADS"] == "1"


def test_the_blas_of_other_packages_is_not_compared() -> None:
    pytest.importorskip("scipy.linalg")
    assert len(blas_libraries(of_numpy=True)) <= 1
    assert arithmetic()["blas"] == blas_libraries(of_numpy=True)


@pytest.mark.parametrize("name", ["probe", "blas", "numpy", "dist_dnn"])
def test_any_difference_names_both_machines_and_the_way_out(name: str) -> None:
    driver = arithmetic() | {"host": "here"}
    worker = driver | {"host": "there", name: "another"}
    check_same_arithmetic(driver, driver | {"host": "there"}, "worker 3", allow_mixed_cpus=False)
    with pytest.raises(RunError, match=rf"worker 3 on there has {name} .* on here .*--allow-mixed"):
        check_same_arithmetic(driver, worker, "worker 3", allow_mixed_cpus=False)
