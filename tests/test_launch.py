"""How many workers there are where nobody says."""

import pytest

from workers.launch import Settings


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        (Settings(), 2),
        (Settings(workers=0), 0),
        (Settings(default_workers=0), 0),
        (Settings("ray", default_workers=0), 2),
        (Settings("ray", workers=0), 0),  # which is an error
        (Settings("ray", workers=3, default_workers=0), 3),
    ],
)
def test_workers_by_default(settings: Settings, workers: int) -> None:
    assert settings.workers_or_default == workers
