"""scikit-learn's MLPClassifier: ``fit`` goes on where it was, over whole epochs of the rows."""

import math
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from peers.steps import Steps
from peers.task import Task


class SklearnSteps(Steps):
    """The training of a task's rows, in an order and from parameters of scikit-learn's own.

    ``partial_fit`` on one batch is a step too, but checks its arguments each time, which makes it
    slower than ``fit`` on every net, and on a small one several times.
    """

    def __init__(self, task: Task) -> None:
        self.X, self.y = task.X, task.y
        self.batches, self.batch_size = task.batches.shape
        self.seen = 0
        self.model = MLPClassifier(
            [W.shape[1] for W in task.W[:-1]],
            solver=task.optimizer,
            learning_rate_init=task.learning_rate,
            batch_size=self.batch_size,
            momentum=0,
            nesterovs_momentum=False,
            alpha=0,
            n_iter_no_change=math.inf,  # an epoch that gains little does not end a turn
            random_state=0,
            warm_start=True,
        )

    def run(self, steps: int) -> tuple[int, float]:
        self.model.set_params(max_iter=-(-steps // self.batches))
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            self.model.fit(self.X, self.y)
        before, self.seen = self.seen, self.model.t_
        return (self.seen - before) // self.batch_size, float(self.model.loss_)
