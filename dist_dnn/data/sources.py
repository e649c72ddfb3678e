"""Tables by rows: files, directories, URIs and tables in memory."""

import base64
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from dist_dnn.errors import InputError

# Other modules of pyarrow are imported where they are used: some take longer than pyarrow.
if TYPE_CHECKING:
    import pyarrow.dataset

BATCH_ROWS = 8_192
"""So many rows of some hundred columns fit in a core's cache."""

PAGE_BUFFER = 2**14
"""So many bytes of each column are read at least; of a larger page all that it has."""

DELIMITERS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
"""The extensions of text files."""

RETRY_SECONDS = 10
"""How long Google's store is asked again where it does not answer."""

UNREADABLE = (OSError, pa.ArrowException, UnicodeError, ImportError)
"""What pyarrow raises for places and contents that are not as they should be."""


class Source(ABC):
    """Rows in one fixed order, read by range.

    Attributes:
        name: what messages call it.
        schema: the names and types of its columns.
        rows: how many there are, over all files.
    """

    name: str
    schema: pa.Schema
    rows: int

    @abstractmethod
    def select(self, columns: Sequence[str]) -> "Source":
        """The same rows with only these columns, all of which exist."""

    @abstractmethod
    def batches(
        self,
        columns: Sequence[str],
        start: int,
        stop: int,
        batch_rows: int = BATCH_ROWS,
        categories: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """The rows [start, stop), in order, with these columns, in this order.

        A batch has from 1 to ``batch_rows`` rows; where it ends depends on the files.

        Args:
            categories: columns of which text may come as dictionaries, which Parquet files have.

        Raises:
            InputError: a file cannot be read.
        """

    @abstractmethod
    def files(self) -> list[tuple[str, int]]:
        """The name and the bytes of each file that the rows come from; none for tables."""

    def unseen(self) -> str | None:
        """A file that cannot be seen from here, if one is looked for in vain; only some are."""
        return None

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What ``reopen`` opens it from, as JSON can say it; a password in a URI is part of it."""


class Ahead:
    """Batches of a source that are taken by as many rows as are asked for.

    Args:
        batches: of the source, of 1 or more rows each.
        name: what messages call the source.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], name: str) -> None:
        self._batches = batches
        self._name = name
        self._waiting: pa.RecordBatch | None = None

    def take(self, most: int) -> pa.RecordBatch:
        """The next rows: up to so many, and one at least.

        Raises:
            InputError: there is none.
        """
        batch = next(self._batches, None) if self._waiting is None else self._waiting
        if batch is None:
            raise InputError(
                f"{self._name} has fewer rows than when it was opened; run again when it is at rest"
            )
        self._waiting = batch.slice(most) if batch.num_rows > most else None
        return batch.slice(0, most)


class TableSource(Source):
    """A table in memory. Its bytes travel apart from its description, by ``write_ipc``."""

    def __init__(self, table: pa.Table, name: str, files: Sequence[tuple[str, int]] = ()) -> None:
        self.name = name
        self.schema = _plain_schema(table.schema)
        self.rows = table.num_rows
        self._table: pa.Table = _with_schema(table, self.schema)
        self._files = list(files)

    def select(self, columns: Sequence[str]) -> "TableSource":
        return TableSource(self._table.select(list(columns)), self.name, self._files)

    def files(self) -> list[tuple[str, int]]:
        return self._files

    def batches(
        self,
        columns: Sequence[str],
        start: int,
        stop: int,
        batch_rows: int = BATCH_ROWS,
        categories: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        table = self._table.select(list(columns)).slice(start, stop - start)
        return (batch for batch in table.to_batches(max_chunksize=batch_rows) if batch.num_rows)

    def description(self) -> dict[str, Any]:
        return {"kind": "table", "name": self.name}

    def ipc_size(self) -> int:
        """How many bytes ``write_ipc`` writes."""
        sink = pa.MockOutputStream()
        self.write_ipc(sink)
        return int(sink.size())

    def write_ipc(self, sink: Any) -> None:
        """Write the table as an Arrow IPC file to a pyarrow stream or a path.

        ``pa.FixedSizeBufferWriter(pa.py_buffer(memory))`` is a stream into shared memory.
        """
        table = widened(self._table).unify_dictionaries()  # an IPC file has one for each column
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


class FileSource(Source):
    """Parquet or Arrow IPC files, of which only what a range of rows needs is read."""

    def __init__(
        self, place: "_Place", file_format: str, schema: pa.Schema, files: Sequence["_File"]
    ) -> None:
        self.name = place.name
        self.schema = schema
        self.rows = sum(sum(file.pieces) for file in files)
        self._place = place
        self._format = file_format
        self._files = files

    def select(self, columns: Sequence[str]) -> "FileSource":
        return FileSource(self._place, self._format, self._schema_of(columns), self._files)

    def batches(
        self,
        columns: Sequence[str],
        start: int,
        stop: int,
        batch_rows: int = BATCH_ROWS,
        categories: Collection[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        schema = self._schema_of(columns)
        if self._format == PARQUET:
            schema = _with_dictionaries(schema, categories)
        first = 0  # the row that the file begins with
        for file in self._files:
            last = first + sum(file.pieces)
            if max(first, start) < min(last, stop):
                begin, end = max(start - first, 0), min(stop, last) - first
                yield from self._file_batches(file, schema, begin, end, batch_rows)
            first = last

    def files(self) -> list[tuple[str, int]]:
        return [(self._place.name_of(file.path), file.size) for file in self._files]

    def unseen(self) -> str | None:
        from pyarrow.fs import FileType

        paths = [self._files[0].path, self._files[-1].path]  # on an object store each takes a while
        with _reading(self.name):
            found = self._place.filesystem.get_file_info(paths)
        missing = [each.path for each in found if each.type == FileType.NotFound]
        return self._place.name_of(missing[0]) if missing else None

    def description(self) -> dict[str, Any]:
        return {
            "kind": "files",
            "name": self.name,
            "uri": self._place.uri,
            "path": self._place.path,
            "format": self._format,
            "schema": base64.b64encode(self.schema.serialize()).decode("ascii"),
            "files": [list(file) for file in self._files],
        }

    def _schema_of(self, columns: Sequence[str]) -> pa.Schema:
        return pa.schema([self.schema.field(column) for column in columns])

    def _file_batches(
        self, file: "_File", schema: pa.Schema, start: int, stop: int, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows [start, stop), counted in this file."""
        name = self._place.name_of(file.path)
        pieces, first = _overlapping(file.pieces, start, stop)
        with _reading(name):
            if self._place.look_at(file.path) != (file.size, file.changed):
                raise InputError(
                    f"{name} has changed since it was opened; run again when it is at rest"
                )
            read = READERS[self._format].read
            for batch in read(self._place, file.path, schema, pieces, batch_rows):
                last = first + batch.num_rows
                for begin in range(max(start, first), min(stop, last), batch_rows):
                    end = min(begin + batch_rows, stop, last)
                    rows = batch.slice(begin - first, end - begin).select(schema.names)
                    # pyarrow trusts text, offsets and indices in a file; some that are wrong
                    # would end the process.
                    rows.validate(full=True)
                    yield _with_schema(rows, schema)
                first = last
                if first >= stop:
                    return
        raise InputError(f"{name} has lost rows since it was opened; run again when it is at rest")


def open_source(
    data: "str | os.PathLike[str] | pa.Table | pa.RecordBatchReader | pyarrow.dataset.Dataset",
    name: str = "DATA",
) -> Source:
    """Open what a user gives as data; what comes back has rows.

    Files are Parquet or Arrow IPC (Feather), or, read into memory, the stream format of Arrow IPC
    or CSV and TSV with a header row (.csv, .tsv, .csv.gz, .tsv.gz). A directory stands for all
    files in it and below, sorted by path, but those of which the name or a folder's name begins
    with "." or "_". What the names of folders say (``year=2024``) makes no column.

    Args:
        data: a path, a URI that ``pyarrow.fs`` opens, or a pyarrow Table, RecordBatchReader or
            Dataset; the last two are read into memory.
        name: what messages call this argument, and a table in memory.

    Raises:
        InputError: it cannot be read or used; the message names the file.
    """
    if isinstance(data, str | bytes | os.PathLike):
        source = _open_place(_locate(os.fsdecode(data), name), name)
    else:
        source = _table_source(_table_in_memory(data, name), name)
    if not source.rows:
        raise InputError(f"{source.name} has no rows; give data that has")
    return source


def reopen(description: Mapping[str, Any], buffer: Any = None) -> Source:
    """The source of this description in another process, or on another machine.

    Args:
        description: from ``Source.description``.
        buffer: for a table, a pyarrow Buffer of what ``TableSource.write_ipc`` wrote, which is
            used without copying.

    Raises:
        InputError: the file system cannot be reached.
    """
    if description["kind"] == "table":
        with pa.ipc.open_file(buffer) as reader:
            return TableSource(reader.read_all(), description["name"])
    with _reading(description["name"]):
        filesystem, _ = filesystem_of(description["uri"])
    place = _Place(filesystem, description["uri"], description["path"], description["name"])
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(description["schema"])))
    files = [_File(*file) for file in description["files"]]
    return FileSource(place, description["format"], schema, files)


# Tables


def _table_in_memory(data: object, name: str) -> pa.Table:
    from pyarrow.dataset import Dataset

    with _reading(name):
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatchReader):
            return data.read_all()
        if isinstance(data, Dataset):
            return data.to_table()
    raise InputError(
        f"{name} is of type {type(data).__name__}; give a path, a URI, or a pyarrow Table, "
        f"RecordBatchReader or Dataset"
    )


def _table_source(table: pa.Table, name: str, files: Sequence[tuple[str, int]] = ()) -> TableSource:
    with _reading(name):
        _check_names(table.schema, name)
        return TableSource(table, name, files)


def _check_names(schema: pa.Schema, name: str) -> None:
    """Columns can be told apart."""
    column, count = max(Counter(schema.names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise InputError(
            f"{name} has {count} columns called {column!r}; give each its own name "
            f"(the first row of a CSV or TSV file must be a header)"
        )


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    """Names and types alone, which is what all files of a directory have in common.

    String views, which pyarrow can neither sort nor take rows from, become strings.
    """
    plain: dict[Any, Any] = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([(field.name, plain.get(field.type, field.type)) for field in schema])


def is_narrow(type_: Any) -> bool:
    """Whether it is a dictionary that may have too few places for the values of another, too."""
    return bool(pa.types.is_dictionary(type_) and type_.index_type.bit_width < 32)


def widened(rows: Any) -> Any:
    """A Table or a RecordBatch of the same columns, none of which is narrow."""
    fields = [
        field.with_type(pa.dictionary(pa.int32(), field.type.value_type, field.type.ordered))
        if is_narrow(field.type)
        else field
        for field in rows.schema
    ]
    return _with_schema(rows, pa.schema(fields))


def _with_dictionaries(schema: pa.Schema, columns: Collection[str]) -> pa.Schema:
    """The schema where text in these columns is in dictionaries."""
    fields = [
        field.with_type(pa.dictionary(pa.int32(), pa.string()))
        if field.name in columns and field.type == pa.string()
        else field
        for field in schema
    ]
    return pa.schema(fields)


def _with_schema(rows: Any, schema: pa.Schema) -> Any:
    """A Table or a RecordBatch of the same columns with the types of a plain schema."""
    columns = [
        _plain_column(column, field.type)
        for column, field in zip(rows.columns, schema, strict=True)
    ]
    return type(rows).from_arrays(columns, schema=schema)


def _plain_column(values: Any, type_: Any) -> Any:
    """A column with this type; no dictionary of it has a null, or pyarrow could not unify them."""
    if isinstance(values, pa.ChunkedArray):
        return pa.chunked_array([_plain_column(chunk, type_) for chunk in values.chunks], type_)
    plain = values if values.type == type_ else values.cast(type_)
    if not pa.types.is_dictionary(type_) or not plain.dictionary.null_count:
        return plain
    return plain.dictionary_decode().dictionary_encode().cast(type_)


# Places


@dataclass(frozen=True)
class _Place:
    """The file or directory that was given, and its file system."""

    filesystem: Any
    uri: str | None  # None: the files of this machine
    path: str  # as the file system writes it
    name: str  # as messages write it

    def name_of(self, path: str) -> str:
        return self.name + printable(path.removeprefix(self.path))

    def look_at(self, path: str) -> tuple[int, int | None]:
        """The size of a file, and when it was last changed."""
        [found] = self.filesystem.get_file_info([path])
        return found.size or 0, found.mtime_ns

    def open(self, path: str) -> Any:
        return self.filesystem.open_input_file(path)

    def map(self, path: str) -> Any:
        """The file, in memory where that is possible: Arrow IPC is then read without copying."""
        return pa.memory_map(path) if self.uri is None else self.open(path)


class _File(NamedTuple):
    """A file as it was when it was opened.

    Attributes:
        pieces: the rows of each of its pieces: its row groups or record batches.
        size: in bytes.
        changed: when it was last changed, in nanoseconds; None where that is not known.
    """

    path: str
    pieces: Sequence[int]
    size: int
    changed: int | None


def _locate(location: str, name: str) -> _Place:
    """Where a path or a URI leads; no file is opened yet."""
    if not location:
        raise InputError(f"the path given as {name} is empty; give a file, a directory or a URI")
    if not is_uri(location):
        path = os.path.abspath(location)
        return _Place(filesystem_of(None)[0], None, path, printable(location.rstrip("/") or "/"))
    with _reading(printable(without_password(location))):
        filesystem, path = filesystem_of(location)
    path = path.rstrip("/")
    if filesystem.type_name == "local":
        return _Place(filesystem, None, path, printable(path))
    scheme = location.partition("//")[0]
    return _Place(filesystem, location, path, printable(f"{scheme}//{path}"))


def is_uri(location: str) -> bool:
    """Whether it is a URI and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def filesystem_of(uri: str | None) -> tuple[Any, str]:
    """The file system of a URI and the path in it; of this machine's files where it is None.

    Where nobody answers, it gives up after some seconds.
    """
    from pyarrow.fs import FileSystem, LocalFileSystem

    if uri is None:
        return LocalFileSystem(), ""
    if re.match("gc?s://", uri) and "retry_limit_seconds=" not in uri:
        uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds={RETRY_SECONDS}"
    filesystem, path = FileSystem.from_uri(uri)
    if filesystem.type_name == "s3":  # a copy tries three times, as one that is made by its class
        filesystem = copy(filesystem)
    return filesystem, path


def location_name(location: str) -> str:
    """What messages call a path or a URI: without a password, or what else only opens it."""
    if not is_uri(location):
        return printable(location)
    return printable(without_password(location.partition("?")[0]).rstrip("/"))


def reason_of(error: BaseException, uri: str) -> str:
    """What pyarrow says, on one line, without what ``location_name`` leaves out of the URI."""
    text = str(error).replace(uri, location_name(uri))
    lines = without_password(text).splitlines()  # Hadoop's say where it looked for its libraries
    return printable(" ".join(lines[0].split())) if lines else type(error).__name__


def _list_files(place: _Place, name: str) -> list[str]:
    """The paths of the files of a place, in the order of their rows."""
    from pyarrow.fs import FileSelector, FileType

    found = place.filesystem.get_file_info([place.path])
    if found[0].type == FileType.NotFound:
        raise InputError(f"there is no file or directory {place.name}; correct {name}")
    if found[0].type == FileType.Directory:
        below = place.filesystem.get_file_info(FileSelector(place.path, recursive=True))
        found = [file for file in below if not _is_hidden(file.path.removeprefix(place.path))]
        found = [file for file in found if file.type != FileType.Directory]
    if not found:
        raise InputError(f"the directory {place.name} has no files in it; give one that has")
    for file in found:
        if file.type != FileType.File:
            raise InputError(f"{place.name_of(file.path)} is no regular file; give one that is")
    return sorted(file.path for file in found)


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line about ``name``."""
    try:
        yield
    except UNREADABLE as error:
        reason = printable(without_password(" ".join(str(error).split())))
        raise InputError(
            f"cannot read {name}: {reason}; check that it is whole and may be read"
        ) from error


def printable(text: str) -> str:
    """The text if it stands on one line, or else with its line breaks and the like escaped."""
    return text if text.isprintable() else repr(text)


def type_name(type_: pa.DataType) -> str:
    """The name of a type on one line."""
    return printable(" ".join(str(type_).split()))


def without_password(text: str) -> str:
    """A text without what its URIs have before an @."""
    # What is before the @ may have a slash in it where it should have been %2F.
    return re.sub(r"//([^/@\s]*|[^/@:\s]*:[^@\s]*)@", "//", text)


# Files


def _open_place(place: _Place, name: str) -> Source:
    """All files of a place as one source."""
    with _reading(place.name):
        paths = _list_files(place, name)
    # Each file of an object store takes a few answers to wait for: wait for several at once.
    with ThreadPoolExecutor(8) as threads:
        formats = list(threads.map(lambda path: _format_of(place, path), paths))
        for path, file_format in zip(paths, formats, strict=True):
            if file_format != formats[0]:
                raise InputError(
                    f"{place.name_of(path)} is {file_format}, but {place.name_of(paths[0])} is "
                    f"{formats[0]}; keep one format in a directory"
                )
        if formats[0] not in READERS:
            table = _read_whole(place, paths, formats[0])
            sizes = [(place.name_of(path), place.look_at(path)[0]) for path in paths]
            return _table_source(table, place.name, sizes)
        states = list(threads.map(place.look_at, paths))
        contents = list(threads.map(lambda path: _inspect(place, path, formats[0]), paths))
    schema = _common_schema(place, paths, [schema for schema, _ in contents], promote=False)
    files = [
        _File(path, pieces, *state)
        for path, (_, pieces), state in zip(paths, contents, states, strict=True)
    ]
    return FileSource(place, formats[0], schema, files)


def _format_of(place: _Place, path: str) -> str:
    """By the first bytes of the file; text by its extension."""
    name = place.name_of(path)
    with _reading(name), place.open(path) as file:
        head = file.read(8)
    if not head:
        raise InputError(f"{name} is empty; write it again or take it away")
    is_text = _delimiter_of(path) is not None
    if is_text and min(head) >= ord("\t"):  # even where the first column is called PAR1 or FEA1
        return CSV
    for magic, file_format in MAGIC.items():
        if head.startswith(magic):
            return file_format
    if is_text:
        return CSV
    if head.startswith(b"FEA1"):
        raise InputError(f"{name} is Feather of version 1; write it again as version 2")
    raise InputError(
        f"{name} does not begin as a Parquet or Arrow IPC (Feather) file does, and its name does "
        f"not end as that of a CSV or TSV file ({', '.join(DELIMITERS)}); write or name it anew"
    )


def _delimiter_of(path: str) -> str | None:
    endings = (ending for ending in DELIMITERS if path.lower().endswith(ending))
    return DELIMITERS.get(next(endings, ""))


def _inspect(place: _Place, path: str, file_format: str) -> tuple[pa.Schema, list[int]]:
    """The schema of a file and the rows of its pieces."""
    name = place.name_of(path)
    with _reading(name):
        schema, pieces = READERS[file_format].inspect(place, path)
        _check_names(schema, name)
        return _plain_schema(schema), pieces


def _common_schema(
    place: _Place, paths: Sequence[str], schemas: Sequence[pa.Schema], promote: bool
) -> pa.Schema:
    """The schema of all files; with ``promote`` their types may differ as int64 and double do."""
    common = schemas[0]
    for path, schema in zip(paths, schemas, strict=True):
        differs = f"{place.name_of(path)} and {place.name_of(paths[0])} differ"
        if schema.names != common.names:
            raise InputError(
                f"{differs} in the names or the order of their columns; "
                f"the files of a directory must have the same"
            )
        types: list[Any] = [
            _common_type(first, second, promote)
            for first, second in zip(common.types, schema.types, strict=True)
        ]
        if None in types:
            column = types.index(None)
            raise InputError(
                f"{differs} in column {schema.names[column]!r}: {type_name(schema.types[column])} "
                f"and {type_name(common.types[column])}; "
                f"the files of a directory must have the same types"
            )
        common = pa.schema(list(zip(schema.names, types, strict=True)))
    return common


def _common_type(first: Any, second: Any, promote: bool) -> Any:
    if not promote:
        return first if first == second else None
    schemas = [pa.schema([("", first)]), pa.schema([("", second)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def _overlapping(pieces: Sequence[int], start: int, stop: int) -> tuple[range, int]:
    """The pieces with rows in [start, stop), and the row that the first of them begins with."""
    ends = list(accumulate(pieces))
    first = next(piece for piece, end in enumerate(ends) if start < end)
    last = next(piece for piece, end in enumerate(ends) if stop <= end)
    return range(first, last + 1), ends[first] - pieces[first]


# Formats


def _read_whole(place: _Place, paths: Sequence[str], file_format: str) -> pa.Table:
    """All files in memory; the types of a CSV file are a guess, which other files may better."""
    read = _read_csv if file_format == CSV else _read_stream
    tables = [read(place, path) for path in paths]
    schemas = [_plain_schema(table.schema) for table in tables]
    schema = _common_schema(place, paths, schemas, promote=file_format == CSV)
    with _reading(place.name):
        return pa.concat_tables([_with_schema(table, schema) for table in tables])


def _read_stream(place: _Place, path: str) -> pa.Table:
    name = place.name_of(path)
    with _reading(name), place.map(path) as file:
        table = pa.ipc.open_stream(file).read_all()
        table.validate(full=True)
        _check_names(table.schema, name)
        return table


def _read_csv(place: _Place, path: str) -> pa.Table:
    name = place.name_of(path)
    with _reading(name):
        try:
            table = _parse_csv(place, path, use_threads=True)
        except pa.ArrowInvalid:
            ragged = _ragged_row(place, path)
            if ragged is None:
                raise
            number, expected, found = ragged
            raise InputError(
                f"row {number} of {name} has {found} values where the header has {expected}; "
                f"correct the file"
            ) from None
        _check_names(table.schema, name)
        return table


def _parse_csv(place: _Place, path: str, use_threads: bool) -> pa.Table:
    from pyarrow.csv import ParseOptions, ReadOptions, read_csv

    # Without newlines_in_values a large file with line breaks inside quotes cannot be read.
    parse = ParseOptions(delimiter=_delimiter_of(path) or ",", newlines_in_values=True)
    with place.filesystem.open_input_stream(path, compression="detect") as file:
        return read_csv(file, ReadOptions(use_threads=use_threads), parse)


def _ragged_row(place: _Place, path: str) -> tuple[int, int, int] | None:
    """The first row that does not fit the header: its number, the values it should have and has.

    Only a parser with one thread knows the number, and it counts the header.
    """
    try:
        _parse_csv(place, path, use_threads=False)
    except pa.ArrowInvalid as error:
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        return ragged and (int(ragged[1]) - 1, int(ragged[2]), int(ragged[3]))
    return None


def _inspect_parquet(place: _Place, path: str) -> tuple[pa.Schema, list[int]]:
    from pyarrow.parquet import ParquetFile

    with place.open(path) as file:
        parquet = ParquetFile(file)
        groups = range(parquet.metadata.num_row_groups)
        return parquet.schema_arrow, [parquet.metadata.row_group(g).num_rows for g in groups]


def _read_parquet(
    place: _Place, path: str, schema: pa.Schema, pieces: range, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    from pyarrow.parquet import ParquetFile

    columns = schema.names
    dictionaries = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    with place.open(path) as file:
        if place.uri is None:  # page by page: a whole row group in memory costs time and space
            parquet = ParquetFile(
                file, read_dictionary=dictionaries, pre_buffer=False, buffer_size=PAGE_BUFFER
            )
        else:  # few large requests to an object store
            parquet = ParquetFile(file, read_dictionary=dictionaries, pre_buffer=True)
        for piece in pieces:  # one by one: pre_buffer would keep all of them in memory
            yield from parquet.iter_batches(
                batch_rows, row_groups=[piece], columns=columns, use_threads=False
            )


def _inspect_ipc(place: _Place, path: str) -> tuple[pa.Schema, list[int]]:
    with place.map(path) as file:
        schema = pa.ipc.open_file(file).schema
        reader = pa.ipc.open_file(file, options=_only(schema.names[:1], schema))
        return schema, [reader.get_batch(n).num_rows for n in range(reader.num_record_batches)]


def _read_ipc(
    place: _Place, path: str, schema: pa.Schema, pieces: range, _: int
) -> Iterator[pa.RecordBatch]:
    with place.map(path) as file:
        options = _only(schema.names, pa.ipc.open_file(file).schema)
        reader = pa.ipc.open_file(file, options=options)
        for piece in pieces:
            yield reader.get_batch(piece)


def _only(columns: Sequence[str], schema: pa.Schema) -> Any:
    """Options that leave the other columns unread."""
    fields = [schema.get_field_index(column) for column in columns]
    return pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)


class _Reader(NamedTuple):
    inspect: Callable[[_Place, str], tuple[pa.Schema, list[int]]]
    read: Callable[[_Place, str, pa.Schema, range, int], Iterator[pa.RecordBatch]]


CSV = "CSV or TSV"
PARQUET = "Parquet"
IPC_FILE = "an Arrow IPC file"
IPC_STREAM = "an Arrow IPC stream"

MAGIC = {
    b"PAR1": PARQUET,
    b"PARE": PARQUET,  # encrypted, which pyarrow's own message says
    b"ARROW1": IPC_FILE,
    b"\xff\xff\xff\xff": IPC_STREAM,
}

READERS = {
    PARQUET: _Reader(_inspect_parquet, _read_parquet),
    IPC_FILE: _Reader(_inspect_ipc, _read_ipc),
}
"""The formats that are read by piece; the others are read into memory."""
