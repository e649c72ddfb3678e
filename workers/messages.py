"""Messages between the driver and a local worker: JSON over a pair of connected sockets.

Nothing is pickled. An empty message rings: it wakes a sleeper that has a word to look at.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any


def send(connection: Connection, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message, and open files with it.

    Raises:
        OSError: the other side is gone, or does not read.
    """
    message = message | {"descriptors": len(descriptors)}
    connection.send_bytes(json.dumps(message).encode())
    for descriptor in descriptors:
        send_handle(connection, descriptor, 0)


def receive(connection: Connection) -> tuple[dict[str, Any], list[int]] | None:
    """The next message with its open files; None when it only rings.

    Raises:
        EOFError, OSError: the other side is gone.
    """
    data = connection.recv_bytes()
    if not data:
        return None
    message = json.loads(data)
    return message, [recv_handle(connection) for _ in range(message.pop("descriptors"))]


def ring(connection: Connection) -> None:
    """Wake the other side; one that is gone is noticed elsewhere."""
    with suppress(OSError):
        connection.send_bytes(b"")
