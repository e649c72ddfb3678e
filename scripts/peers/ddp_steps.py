"""PyTorch's DistributedDataParallel over gloo on loopback, with as many processes as workers."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from peers.task import Task
from peers.torch_steps import TorchSteps

PEER = Path(__file__).resolve().parents[1] / "peer.py"
TIMEOUT = timedelta(seconds=120)
"""How long one rank waits for another."""


class DdpSteps(TorchSteps):
    """One rank of the training of a task; rank 0 starts the others and tells them what to do.

    Args:
        folder: where the task lies, and the ranks find each other.
    """

    def __init__(self, task: Task, folder: Path, rank: int = 0) -> None:
        super().__init__(task)
        torch.set_num_threads(max(1, task.cores // task.processes))
        self.others = [_start(folder, other) for other in range(1, task.processes) if rank == 0]
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=task.processes,
            timeout=TIMEOUT,
        )
        self.model = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        own = torch.from_numpy(task.batches).tensor_split(task.processes, dim=1)[rank]
        self.share = own.shape[1] / task.batches.shape[1]
        self.batches = cycle(own.contiguous())

    def run(self, steps: int) -> tuple[int, float]:
        for other in self.others:
            other.stdin.write(json.dumps({"steps": steps}) + "\n")
            other.stdin.flush()
        for rows in islice(self.batches, steps):
            loss = self.step(rows)
        loss *= self.share
        torch.distributed.all_reduce(loss)
        return steps, loss.item()

    def close(self) -> None:
        for other in self.others:
            other.communicate()
        torch.distributed.destroy_process_group()


def _start(folder: Path, rank: int) -> Any:
    """The process of another rank; it ends when its standard input does."""
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, str(PEER), "ddp", str(folder), str(rank)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
