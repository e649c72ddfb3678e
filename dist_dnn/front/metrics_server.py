"""A training's gauges for Prometheus, served from its own process on the loopback interface."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from dist_dnn.errors import InputError
from dist_dnn.gauges import DESCRIPTIONS, LABEL, PREFIX, Gauges
from dist_dnn.notices import say

HOST = "127.0.0.1"
"""What is served is for this machine alone: nobody is asked who he is."""


def check_port(port: object) -> None:
    """Raise InputError where gauges cannot be served at such a port, or the library is missing."""
    if type(port) is not int or not 0 <= port <= 65535:
        raise InputError(f"metrics_port must be a whole number from 0 to 65535, not {port!r}")
    if find_spec("prometheus_client") is None:
        raise InputError(
            "--metrics-port needs prometheus_client, which is not here: pip install '.[metrics]'"
        )


@contextmanager
def serving(gauges: Gauges, run: str, port: int) -> Iterator[None]:
    """A context in which the gauges can be read at a port; says where.

    Args:
        gauges: what the training reports to.
        run: what the label says.
        port: one that ``check_port`` has passed; 0 for a free one.

    Raises:
        InputError: the port cannot be had.
    """
    import prometheus_client as prometheus

    registry = prometheus.CollectorRegistry()
    registry.register(_Collector(gauges, run))
    try:
        server, thread = prometheus.start_http_server(port, HOST, registry)
    except OSError as error:
        raise InputError(
            f"--metrics-port {port} cannot be had: {error.strerror}; give another one, or 0 for "
            f"one that is free"
        ) from None
    try:
        say(f"metrics at http://{HOST}:{server.server_port}/metrics")
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """Turns gauges into what Prometheus reads, when it does; that costs a training nothing."""

    def __init__(self, gauges: Gauges, run: str) -> None:
        self._gauges = gauges
        self._run = run

    def collect(self) -> Iterator[Any]:
        """The gauges that have a value."""
        from prometheus_client.core import GaugeMetricFamily

        for name, value in self._gauges.values().items():
            family = GaugeMetricFamily(PREFIX + name, DESCRIPTIONS[name], labels=[LABEL])
            family.add_metric([self._run], value)
            yield family
