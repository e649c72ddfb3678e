"""What the commands shapes, plan and check take on the command line, which need no data."""

from typing import Any

from dist_dnn.front import quantities
from dist_dnn.front.arguments import add_reach
from dist_dnn.front.parsing import Command, whole_number
from dist_dnn.hyperparameters import Hyperparameters
from dist_dnn.nn.optimizers import OPTIMIZERS

PLAN_EXAMPLES = """\
examples:
  dist-dnn plan 784 512 256 10 --batch-size 8192 --workers 64 --bandwidth 10Gb/s
  dist-dnn plan 784 512 256 10 --batch-size 8192 --workers 64 --bandwidth 1.25GB/s --latency 5us \\
      --flops 90GFLOP/s
  dist-dnn plan 784 512 256 10 --batch-size 512 --workers 2 --verify

the model: P parameters, V = 4P bytes; N workers, S shards, a batch of B rows; F operations of the
matrix products a row; K = ⌈S/N⌉ shards and R rows of them are the busiest worker's; T complete
subtrees of shards are everyone's, at most k one worker's; a message of n bytes takes α + n/β.
  compute    call + blocks·block + R·(F/flops + row) + (K-1)·P·addition
  broadcast  ⌈log2 N⌉·α + min(⌈log2 N⌉·(α + V/β), (⌈log2 N⌉ + N-1)·α + 2·(N-1)/N·V/β)
  reduce     (N-1)·(2 + k)·α + (reports + slices + gathered)/β + (T-1)·(P/N)·addition
  update     P·update
A worker sends k slices of V/N bytes to each other one, and its slice of the total to the driver.
Without --bandwidth, broadcast is the time to begin and end a round, and reduce the additions.
scripts/README.md says more, and where the formulas come from.
"""


def _add_shapes(parser: Any) -> None:
    _add_sizes(parser)
    parser.add_argument("--batch-size", type=whole_number, metavar="M", help="examples in a batch")
    parser.add_argument("--workers", type=whole_number, default=1, metavar="N", help="default 1")


def _add_sizes(parser: Any) -> None:
    parser.add_argument(
        "sizes",
        metavar="N",
        nargs="+",
        type=whole_number,
        help="n[0] n[1] … n[L], units of the layers",
    )


def _shapes(chosen: Any) -> None:
    from dist_dnn.front.shapes import print_shapes

    print_shapes(tuple(chosen.sizes), chosen.batch_size, chosen.workers)


def _add_plan(parser: Any) -> None:
    _add_sizes(parser)
    parser.add_argument(
        "--batch-size", type=whole_number, metavar="B", required=True, help="examples in a batch"
    )
    parser.add_argument(
        "--workers", type=whole_number, metavar="N", default=2, help="default %(default)s"
    )
    parser.add_argument(
        "--bandwidth",
        type=quantities.bandwidth,
        metavar="10Gb/s",
        help="β, of each worker's link to the network, each way: bits (b) or bytes (B) a second "
        "(default: none, the workers are on one machine and read each other's memory)",
    )
    parser.add_argument(
        "--latency",
        type=quantities.latency,
        metavar="50us",
        help="α, of a message over the network (default 50us)",
    )
    parser.add_argument(
        "--shards",
        type=whole_number,
        metavar="S",
        help="of the experiment (default that of train, or the workers if they are more)",
    )
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default=Hyperparameters().optimizer,
        help="of the driver's update (default %(default)s)",
    )
    parser.add_argument(
        "--flops",
        type=quantities.rate,
        metavar="90GFLOP/s",
        help="what a worker's core does of matrix products; then nothing is measured "
        "(default: measured here, with what else a step takes, in some seconds)",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="train on made-up rows with 1 and 2 local workers, and print both times",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _plan(chosen: Any) -> None:
    from dist_dnn.front.api import import_launch

    import_launch()  # so that the package `workers`, which the model asks, is known to be ours
    from dist_dnn.front.plan import plan_command

    plan_command(chosen)


def _add_check(parser: Any) -> None:
    add_reach(parser, workers=2)


def _check(chosen: Any) -> None:
    from dist_dnn.front.check import check
    from dist_dnn.front.commands import reach_of

    check(reach_of(chosen))


COMMANDS = {
    "shapes": Command(
        _shapes,
        "print the dimensions of every array of a network",
        "example:\n  dist-dnn shapes 784 512 256 10 --batch-size 512 --workers 4",
        _add_shapes,
    ),
    "plan": Command(
        _plan,
        "predict the step time, traffic and efficiency of a network on so many workers",
        PLAN_EXAMPLES,
        _add_plan,
    ),
    "check": Command(
        _check,
        "check the gradients on this machine, and the workers' against serial ones",
        "example:\n  dist-dnn check --workers 3",
        _add_check,
    ),
}
"""The commands by their names."""
