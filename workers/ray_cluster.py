"""The Ray cluster of a run: one that is joined, or one on this machine for this run alone."""

import atexit
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dist_dnn.errors import InputError, RunError
from workers.process import python_path
from workers.ray_access import (
    GIVE_ITS_OWN,
    check_answers,
    environment,
    in_one_line,
    read_authentication_anew,
    silence,
    token_where_there_is_one,
)

LONGEST_TEMPORARY = 28
"""Ray makes sockets below its folder, and the path of a socket is limited."""

REMEDY = "give --address HOST:PORT of the cluster's head, or auto on one of its nodes"

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What keeps all listeners of a private Ray on the loopback interface."""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""What a private Ray is to leave alone."""


class Cluster:
    """A cluster that this process is connected to; ``close`` lets it go.

    Args:
        address: of the cluster to join, "auto" for one on this machine; None starts a private one,
            unless this process is connected already or the environment has RAY_ADDRESS.
        cpus: how many a private one offers at least.

    Attributes:
        folder: of a private one, with all its files; None for another.
        credentials: the environment that lets other drivers join a private one.

    Raises:
        InputError: the address is no good.
        RunError: the cluster cannot be reached, or not be started.
    """

    def __init__(self, address: str | None, cpus: float) -> None:
        self._keeper: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None
        self.credentials: dict[str, str] = {}
        address = address or os.environ.get("RAY_ADDRESS") or None
        if address is not None:
            _check_address(address)
        with environment(QUIET):
            import ray

            self._is_ours = not ray.is_initialized()
            if not self._is_ours:
                return
        if address is not None:
            _join(address)
        else:
            self._start(cpus)

    def _start(self, cpus: float) -> None:
        self.folder = folder = _temporary_folder()
        self._keeper = _start_keeper(folder)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.credentials = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        try:
            with (
                environment(LOOPBACK | QUIET | self.credentials, without=["RAY_AUTH_TOKEN"]),
                _only_loopback(),
            ):
                read_authentication_anew()
                _init(
                    address="local",
                    num_cpus=max(os.cpu_count() or 1, int(-(-cpus // 1))),
                    include_dashboard=False,
                    _temp_dir=str(folder / "ray"),  # which everyone may read: Ray sees to that
                )
        except BaseException:
            self.close()
            raise

    def close(self, is_cut_off: bool = False) -> None:
        """Let the cluster go; of a private one nothing is left.

        Args:
            is_cut_off: this node's Ray has ended, and would be waited for.
        """
        if not self._is_ours:
            return
        import ray

        if is_cut_off:
            atexit.unregister(ray.shutdown)
            atexit.register(_leave)
        else:
            with suppress(Exception):
                ray.shutdown()
        if self._keeper is not None:
            read_authentication_anew()
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait()


def _leave() -> None:
    """End this process before its connection to a Ray that is gone is taken down, which crashes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _check_address(address: str) -> None:
    """Raise InputError unless the address is one that a driver can join."""
    if address == "auto":
        return
    if "://" in address:
        raise InputError(
            f"the Ray address {address} is not that of a cluster to join: {REMEDY}; "
            f"to run on a cluster from elsewhere, use `dist-dnn jobs submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"the Ray address {address!r} is no HOST:PORT: {REMEDY}")


def _join(address: str) -> None:
    """Connect to a cluster.

    Raises:
        RunError: it is not there, or it does not let this process in.
    """
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RayError

    found = None
    with suppress(ConnectionError):
        found = canonicalize_bootstrap_address(address)
    if found is None:
        raise RunError(
            f"no Ray cluster was found for the address {address!r}: start one with "
            f"`ray start --head`, or leave --address out for a private Ray"
        )
    check_answers(found, found if address == "auto" else address, REMEDY)
    try:
        with token_where_there_is_one():
            with silence():
                GcsClient(address=found)  # which says at once what `ray.init` tries for long
            _init(address=found)
    except AuthenticationError:
        raise RunError(
            f"the Ray cluster at {found} does not accept this token: {GIVE_ITS_OWN}"
        ) from None
    except RayError as error:
        raise RunError(f"the Ray cluster at {found} cannot be used: {in_one_line(error)}") from None


def _init(**settings: Any) -> None:
    """Call ``ray.init`` quietly, and leave this process's signals as they are.

    Raises:
        RunError: it fails.
    """
    import ray
    from ray._private import worker

    worker._worker_logs_enabled = False  # what became of workers is ours to say
    try:
        with _without_signal_handlers():
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except Exception as error:
        raise RunError(f"Ray cannot be used: {in_one_line(error)}") from error


@contextmanager
def _without_signal_handlers() -> Iterator[None]:
    """A context in which Ray does not let SIGTERM end this process in its own way.

    Once it connects, when all its processes have started, it also has a handler in C, which writes
    a stack: from then on the signal waits.
    """
    from ray._private import utils, worker

    set_handler, connect = utils.set_sigterm_handler, worker.connect

    def connect_undisturbed(*arguments: Any, **settings: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        return connect(*arguments, **settings)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    utils.set_sigterm_handler = lambda handler: None
    worker.connect = connect_undisturbed
    try:
        yield
    finally:
        utils.set_sigterm_handler, worker.connect = set_handler, connect
        with suppress(ValueError, TypeError):  # in another thread nothing was changed
            for number, handler in handlers.items():
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _only_loopback() -> Iterator[None]:
    """A context in which a Ray that is started listens on the loopback interface alone.

    The environment says so to its processes; this one may have imported Ray long before.

    Raises:
        RunError: the Ray started listens elsewhere.
    """
    from ray._private import ray_constants
    from ray.util import get_node_ip_address

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
        address = get_node_ip_address()
        if not ip_address(address).is_loopback:
            raise RunError(f"this version of Ray listens on {address}: use one that is tested")
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _temporary_folder() -> Path:
    """A new folder that nobody else may read, with a path that is short enough for sockets."""
    where = tempfile.gettempdir()
    if len(where) > LONGEST_TEMPORARY:
        where = "/tmp"  # noqa: S108 - the folder made in it is this user's alone
    return Path(tempfile.mkdtemp(prefix="ray-", dir=where))


def _start_keeper(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-P", "-m", "workers.ray_keeper", str(folder), str(os.getpid())],
        env=os.environ | {"PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        process_group=0,  # an interrupt from the terminal is the driver's alone
    )
