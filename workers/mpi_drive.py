"""Which MPI rank drives: the lowest that is left; the others serve it."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn, TypeVar

from mpi4py import MPI

from dist_dnn import notices
from dist_dnn.errors import InputError, RunError
from dist_dnn.stopping import Stopped
from workers.group import Reach
from workers.mpi_ranks import MpiGroup
from workers.mpi_seats import Seat
from workers.mpi_start import library
from workers.mpi_team import Team
from workers.mpi_worker import END, RankWorker, deaf, serve
from workers.shard_worker import described, error_of, failure_of
from workers.shared_memory import doze

Result = TypeVar("Result")

END_SECONDS = 60.0
"""How long the others may take to hear that they are let go; one that is stopped, say."""


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
    lost, sees_run = worker.lost, worker.sees_run
    del worker  # and its data: what drives loads its own
    if max_failures == 0 or sees_run is False:
        return _drive(team, lambda: _refuse(team, lost))
    return _drive(team, lambda: _take_over(team, lost, main, group))


def _served(worker: RankWorker) -> Any:
    """Serve; an error that is nobody's message ends all ranks, which would wait for this one."""
    try:
        with deaf():
            return serve(worker)
    except MPI.Exception:  # it is not this rank that failed
        worker.team.abort(1)
        raise
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


def _refuse(team: Team, lost: Sequence[Seat]) -> NoReturn:
    """Drive no further than to say why not."""
    raise RunError(
        f"{lost[0].name}, which drove, is gone; {team.own.name} does not take its place, since "
        f"--max-failures is 0 or the run cannot be seen from there: go on with it by --resume"
    )


def _take_over(
    team: Team,
    lost: Sequence[Seat],
    main: Callable[[Reach], Result],
    group: Callable[[int], MpiGroup],
) -> Result:
    """Drive on with what the driver before has left."""
    driver, *others = (seat.name for seat in lost)
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
    is_told = False
    try:
        is_told = team.is_in_step and _is_told(team, {END: _outcome(error)})
    finally:
        if not is_told:
            notices.complain(error or "the ranks did not hear that all is done")
            sys.stdout.flush()
            team.abort(_status(error))


def _is_told(team: Team, message: dict[str, Any]) -> bool:
    """Tell the others something, and wait until all have heard it; whether that could be done."""
    began = monotonic()

    def look(waited: float) -> None:
        doze(waited)
        if monotonic() - began > END_SECONDS:
            raise TimeoutError

    while True:
        try:
            team.complete(team.say_message(message), look)
            team.complete(team.meet(), look)
            return True
        except TimeoutError:
            return False
        except MPI.Exception:
            if not _has_recovered(team):
                return False


def _has_recovered(team: Team) -> bool:
    with suppress(MPI.Exception):
        if team.survives:
            team.recover()
            return True
    return False


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
