"""Which MPI rank drives: the lowest that is left; the others serve it."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from mpi4py import MPI

from dist_dnn import notices
from dist_dnn.errors import InputError, RunError
from dist_dnn.stopping import Stopped
from workers.group import Reach
from workers.mpi_ranks import MpiGroup
from workers.mpi_start import library
from workers.mpi_team import Team
from workers.mpi_worker import END, RankWorker, deaf, serve
from workers.shard_worker import described, error_of, failure_of

Result = TypeVar("Result")


def run(
    team: Team,
    main: Callable[[Reach], Result],
    allow_mixed_cpus: bool,
    max_failures: int,
    step_timeout: float | None,
) -> Result | None:
    """Call ``main`` on the rank that drives; None on one that served to the end.

    Raises:
        InputError, RunError, Stopped: what ended the driver, on all ranks.
    """

    def group(shards: int) -> MpiGroup:
        return MpiGroup(team, shards, allow_mixed_cpus, max_failures, step_timeout)

    if team.drives:
        return _drive(team, lambda: _begin(team, main, group))
    worker = RankWorker(team)
    end = _served(worker)
    if end is not None:
        _check_outcome(end[END])
        return None
    return _drive(team, lambda: _take_over(worker, main, group, max_failures))


def _served(worker: RankWorker) -> Any:
    """Serve; an error that is nobody's message ends all ranks, which would wait for this one."""
    try:
        with deaf():
            return serve(worker)
    except Exception as error:
        notices.speak()
        notices.complain(f"{worker.team.own.name}: {described(error)}")
        worker.team.abort(1)
        raise


def _begin(team: Team, main: Callable[[Reach], Result], group: Callable[[int], MpiGroup]) -> Result:
    """Drive from the beginning."""
    for number in team.absent:
        notices.warn(f"rank {number} was lost while it started: the others hold all shards")
    team.absent = []
    return main(Reach(group, team.size, library()))


def _take_over(
    worker: RankWorker,
    main: Callable[[Reach], Result],
    group: Callable[[int], MpiGroup],
    max_failures: int,
) -> Result:
    """Drive on with what the driver before has left."""
    team = worker.team
    driver, *others = (seat.name for seat in worker.lost)
    if max_failures == 0:
        raise RunError(f"{driver}, which drove, is gone, and --max-failures is 0")
    if worker.sees_run is False:
        raise RunError(
            f"{driver}, which drove, is gone, and {team.own.name} cannot see its run: go on with "
            f"it by --resume where it is"
        )
    notices.warn(
        f"{driver}, which drove, is gone: {team.own.name} drives on from the last checkpoint"
    )
    for other in others:
        notices.warn(f"{other} is gone, too")
    return main(Reach(group, team.size, library(), takes_over=True))


def _drive(team: Team, main: Callable[[], Result]) -> Result:
    notices.speak()
    try:
        result = main()
    except BaseException as error:
        _let_go(team, error)
        raise
    _let_go(team, None)
    return result


def _let_go(team: Team, error: BaseException | None) -> None:
    """Tell the others what has come of it; where that cannot be done, end them and this rank."""
    while team.is_in_step:
        try:
            team.complete(team.say_message({END: _outcome(error)}))
            return
        except MPI.Exception:
            if not team.survives:
                break
            team.recover()
    notices.complain(error if error is not None else "MPI failed when all was done")
    sys.stdout.flush()
    team.abort(_status(error))


def _outcome(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    if isinstance(error, Stopped):
        return {"stopped": error.number}
    if isinstance(error, InputError | RunError):
        return {"error": failure_of(error)}
    return {"error": failure_of(RunError(f"the driver: {type(error).__name__}"))}


def _check_outcome(outcome: dict[str, Any]) -> None:
    """Raise what ended the driver, if anything did."""
    if "stopped" in outcome:
        raise Stopped(outcome["stopped"])
    if "error" in outcome:
        raise error_of(outcome["error"])


def _status(error: BaseException | None) -> int:
    if isinstance(error, Stopped):
        return 128 + error.number
    return 2 if isinstance(error, InputError) else 1
