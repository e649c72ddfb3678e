"""The table of a network's dimensions, as the lecture asks to check them."""

from dist_dnn.errors import InputError
from dist_dnn.front.tables import print_table
from dist_dnn.nn.network import Network


def print_shapes(sizes: tuple[int, ...], batch_size: int | None, workers: int) -> None:
    """Print every array's shape, the parameters, and the bytes of a step.

    Args:
        sizes: n[0] … n[L].
        batch_size: m in the shapes; the letter when None.
        workers: how many exchange vectors.
    """
    for name, value in (("--batch-size", batch_size), ("--workers", workers)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be a whole number above 0, not {value}")
    try:
        network = Network(sizes, loss="half_squared_error")
    except ValueError as error:
        raise InputError(str(error)) from None
    m = "m" if batch_size is None else str(batch_size)
    rows = [("l", "W[l], dW[l]", "b[l], db[l]", "Z[l], A[l], dZ[l], dA[l]", "parameters")]
    rows.append(("0", "", "", f"({sizes[0]}, {m})  A[0] = X", ""))
    rows += [
        (
            str(layer.number),
            f"({layer.units}, {layer.inputs})",
            f"({layer.units}, 1)",
            f"({layer.units}, {m})",
            f"{layer.stop - layer.start:,}",
        )
        for layer in network.layers
    ]
    print_table(rows)
    parameters = network.parameter_count
    print(f"\nL = {network.L} layers, {parameters:,} parameters of 4 bytes")
    print(
        f"a step broadcasts {4 * parameters:,} bytes of parameters to {workers} worker"
        f"{'s' if workers > 1 else ''} and adds up {4 * parameters:,} bytes of sums from each"
    )
    if batch_size is not None:
        numbers = batch_size * (sizes[0] + 2 * sum(sizes[1:]))
        print(f"and keeps {4 * numbers:,} bytes of A, Z and dZ over all workers")
