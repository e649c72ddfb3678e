"""Being let in to a Ray cluster: whether it answers, the token it asks for, and quietly."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from dist_dnn.errors import RunError

CONNECT_SECONDS = 5.0
"""How long to try for a connection to a cluster."""

GIVE_ITS_OWN = "give its own in RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token, with RAY_AUTH_MODE=token"


def check_answers(address: str, given: str, remedy: str) -> None:
    """Raise RunError unless a cluster listens at HOST:PORT.

    Args:
        address: where Ray looks for it.
        given: what it was given, which messages say.
        remedy: what messages say to do.
    """
    try:
        _connect(address)
    except OSError as error:
        reason = error.strerror or str(error)
        if address != given and _answers(given):
            reason = (
                f"it listens there, but Ray looks for it at {address} unless "
                f"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 is in the environment"
            )
        raise RunError(f"no Ray cluster answers at {given}: {reason}; {remedy}") from None


def _connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _answers(address: str) -> bool:
    with suppress(OSError):
        _connect(address)
        return True
    return False


@contextmanager
def silence() -> Iterator[None]:
    """A context in which nothing is written to standard error, not by Ray's own libraries either.

    They say there what is then raised.
    """
    if sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def token_where_there_is_one() -> Iterator[None]:
    """A context in which Ray uses a token if this user has one, as ``ray start`` does."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    read_authentication_anew()
    has_one = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    if "RAY_AUTH_MODE" in os.environ or not has_one:
        yield
        return
    with environment({"RAY_AUTH_MODE": "token"}):
        read_authentication_anew()
        yield


def read_authentication_anew() -> None:
    """Let Ray, which remembers them, read the environment's mode of authentication and token."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def environment(values: Mapping[str, str], without: list[str] | None = None) -> Iterator[None]:
    """A context with other environment variables, which Ray's processes inherit."""
    before = dict(os.environ)
    for name in without or []:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
