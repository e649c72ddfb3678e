"""Data-parallel training of deep, fully connected neural networks on CPUs.

Public names load when they are used: importing the package imports nothing by itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dist_dnn.errors import InputError, RunError
    from dist_dnn.front.api import Run, train
    from dist_dnn.hyperparameters import Hyperparameters
    from dist_dnn.model import Model
    from dist_dnn.nn.network import Gradients, Network, Parameters
    from dist_dnn.nn.propagation import Arrays, backward, forward, gradients, losses

__version__ = "0.1.0"

_HOMES = {
    "InputError": "dist_dnn.errors",
    "RunError": "dist_dnn.errors",
    "Run": "dist_dnn.front.api",
    "train": "dist_dnn.front.api",
    "Hyperparameters": "dist_dnn.hyperparameters",
    "Model": "dist_dnn.model",
    "Gradients": "dist_dnn.nn.network",
    "Network": "dist_dnn.nn.network",
    "Parameters": "dist_dnn.nn.network",
    "Arrays": "dist_dnn.nn.propagation",
    "backward": "dist_dnn.nn.propagation",
    "forward": "dist_dnn.nn.propagation",
    "gradients": "dist_dnn.nn.propagation",
    "losses": "dist_dnn.nn.propagation",
}

__all__ = [  # noqa: RUF022 - in the order of the table above
    "InputError",
    "RunError",
    "Run",
    "train",
    "Hyperparameters",
    "Model",
    "Gradients",
    "Network",
    "Parameters",
    "Arrays",
    "backward",
    "forward",
    "gradients",
    "losses",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dist_dnn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
