"""Jobs of a Ray cluster: submitted, watched and stopped through Ray's Jobs API."""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from dist_dnn import stopping
from dist_dnn.data.sources import without_password
from dist_dnn.errors import InputError, RunError
from dist_dnn.notices import warn
from workers.ray_access import (
    CONNECT_SECONDS,
    GIVE_ITS_OWN,
    check_answers,
    environment,
    in_one_line,
    silence,
    token_where_there_is_one,
)

STOP_SECONDS = 60
"""How long a stopped job may take for its checkpoint; Ray by itself gives 3 seconds."""

ANSWER_SECONDS = 30.0
"""How long the cluster may be silent in the middle of an answer."""

POLL_SECONDS = 0.5

ADDRESS = "RAY_API_SERVER_ADDRESS"
REMEDY = f"give --address http://HEAD:8265 of the cluster's head, or set {ADDRESS}"

TERMINATED = 128 + 15
"""The exit status of a job that was stopped, which Ray does not tell."""

LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.utils",
    "ray._private.authentication.http_token_authentication",
    "ray._private.runtime_env.packaging",
)
"""Those of Ray's client, of which what counts is raised, too."""

UPLOADED = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
"""What Ray replaces by the uploaded folder while it installs what a job needs."""


@dataclass(frozen=True)
class Job:
    """What the cluster knows of a job.

    Attributes:
        id: by which it was submitted.
        state: pending, running, succeeded, stopped or failed.
        command: what its shell runs.
        submitted: seconds since 1970.
        ended: the same, if it has.
        exit_status: of its command, or 128 + SIGTERM where it was stopped; None before its end.
        message: what Ray says of its state.
        metadata: what was submitted with it.
    """

    id: str
    state: str
    command: str
    submitted: float
    ended: float | None
    exit_status: int | None
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether its command runs no more."""
        return self.state in ("succeeded", "stopped", "failed")


class Jobs:
    """The jobs of one cluster.

    Args:
        address: the URL of its dashboard, like ``http://head:8265``; HOST:PORT of its head, or
            "auto" for a cluster of this machine, ask that for it. None: RAY_API_SERVER_ADDRESS,
            RAY_ADDRESS, or else "auto".

    Attributes:
        url: of its dashboard.
        ray_version: that it runs.

    Raises:
        InputError: Ray is not installed, or the address is no good.
        RunError: the cluster is not there, or does not let this process in.
    """

    def __init__(self, address: str | None) -> None:
        address = address or os.environ.get(ADDRESS) or os.environ.get("RAY_ADDRESS") or "auto"
        _check_installed()
        self.url = without_password(address)
        with _explained(self.url), token_where_there_is_one():
            url = _url(address)
            self.url = without_password(url)
            self._client = _client(url)
            answer = self._client._do_request("GET", "/api/version")
            self.ray_version = str(answer.json()["ray_version"])

    def submit(
        self, id: str, command: str, folder: Path, pip: list[str], metadata: Mapping[str, str]
    ) -> None:
        """Submit a job.

        Args:
            id: a new one.
            command: what a shell is to run in ``folder``.
            folder: what is uploaded; the working directory.
            pip: what is to be installed, as requirements of pip, which may lie in UPLOADED.
            metadata: is kept with it.
        """
        runtime = {
            "working_dir": str(folder),
            "pip": pip,
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }
        with _explained(self.url):
            self._client.submit_job(
                entrypoint=command, submission_id=id, runtime_env=runtime, metadata={**metadata}
            )

    def all(self) -> list[Job]:
        """Those that were submitted, oldest first."""
        with _explained(self.url):
            found = [_job(each) for each in self._client.list_jobs() if each.submission_id]
        return sorted(found, key=lambda job: (job.submitted, job.id))

    def get(self, id: str) -> Job:
        """A job.

        Raises:
            InputError: there is none of this name.
        """
        with self._of(id) as missing:
            details = self._client.get_job_info(id)
            if not details.submission_id:  # a driver that nobody submitted
                raise missing
            return _job(details)

    def log(self, id: str) -> str:
        """What a job has said so far."""
        with self._of(id):
            return str(self._client.get_job_logs(id))

    def follow(self, id: str, write: Callable[[str], object]) -> Job:
        """Pass on what a job says, from its beginning, until it has ended.

        Returns:
            The job as it ended.
        """

        async def pass_on() -> None:
            async for text in self._client.tail_job_logs(id):
                write(text)

        from aiohttp import ClientError

        try:
            with stopping.postponed():  # what a signal raises inside of the client may be lost
                asyncio.run(_done_unless_stopped(pass_on()))
        except (RuntimeError, ClientError):  # a proxy may have its own idea of how long that lasts
            warn(f"the log of job {id} is cut off here; waiting until it has ended")
        return self.ended(id)

    def stop(self, id: str) -> None:
        """Ask a job to end, if it has not."""
        with self._of(id):
            self._client.stop_job(id)

    def ended(self, id: str, seconds: float = float("inf")) -> Job:
        """A job after it has ended, which is waited for.

        Raises:
            RunError: it has not in so many seconds.
        """
        end = monotonic() + seconds
        while not (job := self.get(id)).is_over:
            if monotonic() > end:
                raise RunError(f"job {id} is still {job.state} after {seconds:.0f} s")
            sleep(POLL_SECONDS)
        return job

    @contextmanager
    def _of(self, id: str) -> Iterator[InputError]:
        """A context that asks for a job; gives what to raise where there is none."""
        missing = InputError(
            f"there is no job {id!r} on the cluster at {self.url}; `dist-dnn jobs list` shows them"
        )
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", id):
            raise missing
        with _explained(self.url, missing):
            yield missing


async def _done_unless_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do what takes long, and look now and then whether a signal asks for an end."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=POLL_SECONDS)
        stopping.check()
    task.result()


def _job(details: Any) -> Job:
    state = str(details.status.value).lower()
    ended = details.end_time
    return Job(
        details.submission_id,
        state,
        details.entrypoint,
        (details.start_time or 0) / 1000,
        None if ended is None else ended / 1000,
        _exit_status(state, details.driver_exit_code),
        details.message or "",
        details.metadata or {},
    )


def _exit_status(state: str, code: int | None) -> int | None:
    """As a shell has it; 1 where a job failed before its command, or with its node."""
    known = {"succeeded": 0, "stopped": TERMINATED, "failed": 1}
    if state != "failed" or code is None:
        return known.get(state)
    return 128 - code if code < 0 else code


# The cluster


def _url(address: str) -> str:
    """The URL of the dashboard, which a cluster is asked for where another address is known."""
    if re.match(r"https?://[^/\s]", address):
        return address.rstrip("/")
    if address != "auto" and not re.fullmatch(r"[\w.\[\]:-]+:\d{1,5}", address):
        raise InputError(f"{without_password(address)!r} is not the address of jobs: {REMEDY}")
    from ray._private.services import canonicalize_bootstrap_address
    from ray.dashboard.utils import get_address_for_submission_client

    found = None
    with suppress(ConnectionError):
        found = canonicalize_bootstrap_address(address)
    if found is None:
        raise RunError(f"no Ray cluster was found on this machine: {REMEDY}")
    check_answers(found, found if address == "auto" else address, REMEDY)
    with environment({ADDRESS: found}), silence():
        return str(get_address_for_submission_client(None))


def _client(url: str) -> Any:
    """Ray's own client, which gives up where the cluster is silent, and says nothing itself."""
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **settings: Any) -> Any:
            settings.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS))
            return super()._do_request(*arguments, **settings)

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with environment({ADDRESS: url}):  # which Ray puts above what it is given
        return Client(url)


def _check_installed() -> None:
    """Raise InputError unless Ray is here with what its client of jobs needs."""
    if not all(find_spec(name) for name in ("ray", "aiohttp", "requests")):
        raise InputError(
            "jobs need Ray with its dashboard, which is not here: pip install '.[ray]'"
        )


@contextmanager
def _explained(url: str, missing: InputError | None = None) -> Iterator[None]:
    """A context that says in one line what Ray's client raises.

    Args:
        url: of the cluster.
        missing: to be raised where the cluster has no such job.
    """
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError, RayError

    try:
        yield
    except (InputError, RunError):
        raise
    except AuthenticationError:
        raise RunError(
            f"the Ray cluster at {url} does not accept this token: {GIVE_ITS_OWN}"
        ) from None
    except requests.HTTPError as error:
        raise RunError(f"the Ray cluster at {url} fails: {_said(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise RunError(f"what answers at {url} is no dashboard of Ray: {REMEDY}") from None
    except (OSError, aiohttp.ClientError) as error:
        silent = isinstance(error, requests.Timeout | TimeoutError)
        what = "does not answer in time" if silent else "does not answer"
        raise RunError(f"the Ray cluster at {url} {what}: {REMEDY}") from None
    except (RuntimeError, RayError) as error:
        if missing is not None and "status code 404" in str(error):
            raise missing from None
        raise RunError(f"the Ray cluster at {url} refuses: {_said(error)}") from None


def _said(error: Exception) -> str:
    """What an error says, in one line; it may repeat the URL that was asked."""
    return without_password(in_one_line(error))
