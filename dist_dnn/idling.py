"""Rounds that compute nothing, to measure what a round costs by itself."""

from time import perf_counter_ns

from dist_dnn.rounds import Options, Sizes, Task


class Idling(Task):
    """Keeps every worker busy for a while. Position: (nanoseconds,)."""

    @classmethod
    def sizes(cls, options: Options) -> tuple[Sizes, Sizes]:
        return Sizes(0, 0), Sizes(0, 1)

    def run(self, position: tuple[int, ...]) -> None:
        end = perf_counter_ns() + position[0]
        while perf_counter_ns() < end:
            pass
        self.exchange.slots.double[:] = 1
