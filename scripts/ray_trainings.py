"""Trainings on Ray: one cluster that they all join, one after the other."""

import os
from importlib.util import find_spec

from trainings import SHARDS, Backend, command_line, train_command

from dist_dnn.errors import InputError
from workers.ray_cluster import LOOPBACK, Cluster
from workers.ray_keeper import processes_of


class RayBackend(Backend):
    """Workers are actors of a private Ray on this machine, which takes long to start."""

    step_timeout = 5.0
    """A worker that takes a lost one's place imports Ray and NumPy, for seconds where there are
    few cores; those that are left must be able to answer meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        if find_spec("ray") is None:
            raise InputError("the ray backend needs Ray, which is not here: pip install '.[ray]'")
        os.environ.pop("RAY_ADDRESS", None)  # nobody else's cluster is to suffer
        self._cluster = Cluster(None, cpus=SHARDS)
        assert self._cluster.folder is not None
        self._folder = self._cluster.folder
        self.environment = LOOPBACK | self._cluster.credentials | {"RAY_ADDRESS": _address()}

    def command(self, workers: int) -> list[str]:
        return train_command("ray" if workers else "local", workers)

    def workers(self, launched: int) -> list[int]:
        return self.workers_elsewhere()  # all drivers before are gone, and so are theirs

    def workers_elsewhere(self) -> list[int]:
        processes = processes_of(str(self._folder), os.getpid())
        return [each for each in processes if command_line(each).startswith("ray::RayWorker")]

    def close(self) -> list[str]:
        self._cluster.close()
        processes = processes_of(str(self._folder), os.getpid())
        left = [f"process {process}: {command_line(process)}" for process in processes]
        return left + [str(self._folder)] * self._folder.exists()


def _address() -> str:
    """Of the cluster that this process is connected to."""
    import ray

    return str(ray.get_runtime_context().gcs_address)
