"""PyTorch as its users write it: one process, eager, all cores' threads."""

from itertools import cycle, islice
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from peers.steps import Steps
from peers.task import Task

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


class TorchSteps(Steps):
    """The training of a task by a Sequential of Linear and ReLU."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.cores)
        self.model: Any = make_model(task)
        self.optimizer = make_optimizer(task, self.model)
        self.X, self.y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self.batches = cycle(torch.from_numpy(task.batches))

    def run(self, steps: int) -> tuple[int, float]:
        for rows in islice(self.batches, steps):
            loss = self.step(rows)
        return steps, loss.item()

    def step(self, rows: Any) -> Any:
        """One step on the rows of those numbers; returns the loss before it."""
        X, y = self.X.index_select(0, rows), self.y.index_select(0, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(self.model(X), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def make_model(task: Task) -> Any:
    """The net of a task with its parameters."""
    layers: list[Any] = []
    for W, b in zip(task.W, task.b, strict=True):
        linear = nn.Linear(*W.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def make_optimizer(task: Task, model: Any) -> Any:
    """The optimiser of a task for a model: the fused one, which no other form beats."""
    return OPTIMIZERS[task.optimizer](model.parameters(), lr=task.learning_rate, fused=True)
