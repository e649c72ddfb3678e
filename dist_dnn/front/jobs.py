"""What the commands of `dist-dnn jobs` do."""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TextIO

from dist_dnn import stopping
from dist_dnn.data.sources import location_name, printable, without_password
from dist_dnn.errors import InputError, RunError
from dist_dnn.front.api import import_launch
from dist_dnn.front.packing import pinned_dependencies, supports_ray, write_wheel
from dist_dnn.front.submission import KEY, Submission, submission
from dist_dnn.front.tables import print_table
from dist_dnn.looking import look_at
from dist_dnn.notices import complain, say
from dist_dnn.run_states import BROKEN
from dist_dnn.storage import Folder, LocalFolder, Unsound, open_folder
from dist_dnn.tracking import STATUS_FILE

if TYPE_CHECKING:
    from workers.ray_jobs import Job, Jobs

IN_STATUS = ("state", "epoch", "step", "started", "updated", "error")
"""What is shown of a run's status.json."""

LONGEST_MESSAGE = 400
"""So much of what Ray says of a failure fits a line."""


def _jobs(chosen: Any) -> "Jobs":
    """The cluster's jobs."""
    import_launch()  # so that the package `workers` is known to be ours
    from workers.ray_jobs import Jobs

    return Jobs(chosen.address)


def _submit(chosen: Any) -> int:
    asked = submission(chosen.train)
    jobs = _jobs(chosen)
    id = _submitted(jobs, asked)
    return _follow(jobs, id, asked) if chosen.wait else 0


def _submitted(jobs: "Jobs", asked: Submission) -> str:
    """Submit a job, and print its name."""
    from workers.ray_jobs import UPLOADED

    if not supports_ray(jobs.ray_version):
        raise RunError(
            f"the cluster at {jobs.url} runs Ray {jobs.ray_version}, which this version of "
            f"dist_dnn does not work with; the extra `ray` says with which it does"
        )
    _check_free(jobs, asked)
    asked = replace(asked, pins=asked.pins or tuple(pinned_dependencies()))
    id = f"{asked.name}-{secrets.token_hex(4)}"
    with TemporaryDirectory(prefix="dist_dnn-") as name:
        folder = Path(name)
        wheel = write_wheel(folder)
        asked.write_config(folder)
        pip = [*asked.pins, f"{UPLOADED}/{wheel.name}"]
        with _named(id):
            jobs.submit(id, asked.command, folder, pip, {KEY: asked.to_json()})
            print(id, flush=True)
    return id


@contextmanager
def _named(id: str) -> Iterator[None]:
    """A context that submits a job; what ends it says the name, which nobody else knows."""
    try:
        yield
    except (stopping.Stopped, RunError, OSError) as error:
        error.add_note(f"job {id} may have been submitted: `dist-dnn jobs status {id}` tells")
        raise


def _follow(jobs: "Jobs", id: str, asked: Submission) -> int:
    """Show on standard error what a job says until it has ended; gives its exit status."""
    try:
        with _writer(sys.stderr, asked) as write:
            job = jobs.follow(id, write)
    except stopping.Stopped as stopped:
        stopped.add_note(
            f"job {id} goes on: follow it by `dist-dnn jobs logs {id} --follow`, stop it by "
            f"`dist-dnn jobs stop {id}`"
        )
        raise
    if job.exit_status:
        complain(f"job {id} {_how_it_ended(job)}")
    return job.exit_status or 0


@contextmanager
def _writer(stream: TextIO, ours: Submission | None) -> Iterator[Callable[[str], None]]:
    """A context for what writes a job's log to a stream, line by line, but for passwords.

    It is given the log in pieces, which may end inside of a URI: what follows the last end of a
    line waits for the next piece, or for the end of the context.
    """
    rest = ""

    def write(text: str) -> None:
        nonlocal rest
        lines, end, rest = (rest + text).rpartition("\n")
        show(lines + end)

    def show(text: str) -> None:
        print(_hidden(text, ours), end="", file=stream, flush=True)

    try:
        yield write
    finally:
        show(rest)


def _hidden(text: str, ours: Submission | None) -> str:
    """A text about a job without the passwords in its URIs; Ray repeats a job's command."""
    return without_password(ours.hidden(text) if ours else text)


def _how_it_ended(job: "Job") -> str:
    if job.state == "stopped":
        return f"was stopped: `dist-dnn jobs resume {job.id}` goes on with its run"
    if job.exit_status != 1 or "exit code 1" in job.message:  # its own words are in its log
        return f"failed with exit status {job.exit_status}"
    return f"failed: {_message(job)}"


def _message(job: "Job") -> str:
    """What Ray says of a job, on a line; of pip's many lines those that count."""
    message = job.message.partition(", last available logs")[0]
    lines = _hidden(message, Submission.from_metadata(job.metadata)).splitlines()
    errors = [line for line in lines if line.lstrip().startswith("ERROR:")]
    said = printable(" ".join(" ".join(errors or lines).split()))
    return said if len(said) <= LONGEST_MESSAGE else f"{said[:LONGEST_MESSAGE]}…"


def _list(chosen: Any) -> int:
    jobs = _jobs(chosen)
    found = [_described(job) for job in jobs.all()]
    if chosen.json:
        print(json.dumps(found))
    elif found:
        columns = ("job", "state", "submitted", "took", "run")
        rows = [
            (each["job"], each["state"], each["submitted"], _took(each), each["run"] or "-")
            for each in found
        ]
        print_table([columns, *rows], right=())
    if not found:
        say(f"there are no jobs on the cluster at {jobs.url}")
    return 0


def _described(job: "Job") -> dict[str, Any]:
    """A job as JSON says it."""
    ours = Submission.from_metadata(job.metadata)
    return {
        "job": printable(job.id),
        "state": job.state,
        "exit_status": job.exit_status,
        "submitted": _time(job.submitted),
        "ended": None if job.ended is None else _time(job.ended),
        "run": location_name(ours.out) if ours else None,
        "arguments": ours.shown if ours else None,
        "version": printable(ours.version) if ours else None,
        "command": printable(_hidden(job.command, ours)),
        "message": _message(job) if job.state in ("pending", "failed") else "",
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _took(described: Mapping[str, Any]) -> str:
    """Hours, minutes and seconds from a job's submission to its end, or until now."""
    end = described["ended"] or datetime.now(UTC).isoformat(timespec="seconds")
    began, ended = (datetime.fromisoformat(each) for each in (described["submitted"], end))
    minutes, seconds = divmod(max(0, int((ended - began).total_seconds())), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _status(chosen: Any) -> int:
    job = _jobs(chosen).get(chosen.id)
    described = _described(job)
    ours = Submission.from_metadata(job.metadata)
    progress = _progress(ours)
    if chosen.json:
        print(json.dumps(described | {"progress": progress}))
        return 0
    shown = {
        name.replace("_", " "): value for name, value in described.items() if name != "arguments"
    }
    shown |= {f"run's {name}": value for name, value in progress.items()}
    rows = [(name, str(value)) for name, value in shown.items() if value not in (None, "")]
    print_table(rows, right=())
    return 0


def _progress(ours: Submission | None) -> dict[str, Any]:
    """How far a run has come, as its files say; where they say nothing, why they do not."""
    unknown = dict.fromkeys((*IN_STATUS, "digest", "problem"))
    if ours is None:
        return unknown | {"problem": "the job was not submitted by `dist-dnn jobs`"}
    try:
        folder = open_folder(ours.out)
        if not folder.is_there():
            return unknown | {"problem": "its files are not there, or not seen from this machine"}
    except InputError as error:
        return unknown | {"problem": printable(_hidden(str(error), ours))}
    look = look_at(folder)
    if look.state == BROKEN:
        return unknown | {"problem": look.problem}
    known = {name: look.status.get(name) for name in IN_STATUS} | {"state": look.state}
    return unknown | known | {"digest": look.epochs[-1]["digest"] if look.epochs else None}


def _logs(chosen: Any) -> int:
    jobs = _jobs(chosen)
    ours = Submission.from_metadata(jobs.get(chosen.id).metadata)
    with _writer(sys.stdout, ours) as write:
        if chosen.follow:
            jobs.follow(chosen.id, write)
        else:
            write(jobs.log(chosen.id))
    return 0


def _stop(chosen: Any) -> int:
    from workers.ray_jobs import STOP_SECONDS

    jobs, id = _jobs(chosen), chosen.id
    job = jobs.get(id)
    if job.is_over:
        say(f"job {id} had ended already: {job.state}")
        return 0
    jobs.stop(id)
    if chosen.no_wait:
        return 0
    job = jobs.ended(id, 2 * STOP_SECONDS)
    say(f"job {id} {_how_it_ended(job) if job.exit_status else 'had just succeeded'}")
    return 0


def _resume(chosen: Any) -> int:
    jobs = _jobs(chosen)
    job, begun = _ended(jobs, chosen.id)
    if job.state == "succeeded" and chosen.epochs is None:
        raise InputError(
            f"job {job.id} has succeeded: there is nothing to resume; give more --epochs to go on"
        )
    _submitted(jobs, begun.resumed(workers=chosen.workers, epochs=chosen.epochs))
    return 0


def _ended(jobs: "Jobs", id: str) -> tuple["Job", Submission]:
    """A job of ours that has ended, and what it was.

    Raises:
        InputError: it has not, or is none of ours.
    """
    job = jobs.get(id)
    ours = Submission.from_metadata(job.metadata)
    if ours is None:
        raise InputError(f"job {id} was not submitted by `dist-dnn jobs`; use `ray job` for it")
    if not job.is_over:
        raise InputError(
            f"job {id} is {job.state}: wait until it has ended, or stop it by "
            f"`dist-dnn jobs stop {id}`"
        )
    return job, ours


def _check_free(jobs: "Jobs", ours: Submission) -> None:
    """Raise InputError where a job that has not ended has the run of this one."""
    for job in jobs.all():
        other = Submission.from_metadata(job.metadata)
        if other is not None and other.run == ours.run and not job.is_over:
            id = printable(job.id)
            raise InputError(
                f"job {id} is {job.state}, with the same run {location_name(ours.out)}: wait until "
                f"it has ended, or stop it by `dist-dnn jobs stop {id}`"
            )


def _fetch(chosen: Any) -> int:
    target = LocalFolder(Path(chosen.to), "--to")
    if target.is_there():
        raise InputError(f"{target.name} exists: choose another --to, or move it away")
    jobs = _jobs(chosen)
    _, ours = _ended(jobs, chosen.id)
    _check_free(jobs, ours)
    copy_run(open_folder(ours.out), target)
    say(f"run in {target.name}; next: dist-dnn evaluate {target.name} DATA")
    return 0


def copy_run(source: Folder, target: LocalFolder) -> None:
    """Copy all files of a run to a new folder, which is there when all of them are.

    Raises:
        InputError: there is no run, it is being written, or the folder cannot be made.
    """
    target.check_new()
    if not source.has(STATUS_FILE):
        raise InputError(
            f"there is no run in {source.name}, or this machine does not see it; look for it by "
            f"`dist-dnn jobs logs`"
        )
    with ExitStack() as stack, source.locked(), target.made(stack):
        for file in source.files():
            if not re.fullmatch(r"(checkpoints/)?[\w-][\w.-]*", file):
                raise InputError(f"{source.name} has a file that is no run's: {file!r}; remove it")
            try:
                with source.fetched(file, compared=True) as path:
                    target.write(file, [path.read_bytes()])
            except Unsound as error:
                raise InputError(f"{source.name_of(file)}: {error}; try again") from None


COMMANDS: dict[str, Callable[[Any], int]] = {
    "submit": _submit,
    "list": _list,
    "status": _status,
    "logs": _logs,
    "stop": _stop,
    "resume": _resume,
    "fetch": _fetch,
}
