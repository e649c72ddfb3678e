"""Sources: any range of rows is what a whole reading gives, and bad input is one clear line."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_dnn.data import sources
from dist_dnn.data.sources import FileSource, Source, TableSource, open_source, reopen, widened
from dist_dnn.errors import InputError

ROWS = 60


def example_table(rows: int = ROWS) -> pa.Table:
    numbers = np.arange(rows)
    return pa.table(
        {
            "number": numbers,
            "half": (numbers / 2).astype(np.float16),
            "flag": numbers % 3 == 0,
            "pair": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2.0 * rows)), 2),
            "label": pa.array([f"class {n % 5}" for n in numbers]).dictionary_encode(),
            "with.dot": [None if n % 7 == 0 else n for n in numbers.tolist()],
        }
    )


def flat_table(rows: int = ROWS) -> pa.Table:
    """What CSV can say."""
    return example_table(rows).select(["number", "flag", "with.dot"])


def write_ipc(table: pa.Table, path: Path, batch_rows: int, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    table = table.unify_dictionaries()
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_parts(
    directory: Path, ending: str, write: Callable[[pa.Table, Path], None], table: pa.Table
) -> Path:
    """The table in three files of different folders and sizes, one of them without rows."""
    (directory / "b").mkdir(parents=True)
    bounds = [0, 11, 11, 40, ROWS]
    names = ["a", "b/1", "b/2", "c"]
    for name, start, stop in zip(names, bounds, bounds[1:], strict=False):
        write(table.slice(start, stop - start), directory / f"{name}{ending}")
    (directory / "_SUCCESS").write_text("")
    (directory / ".hidden.csv").write_text("x")
    (directory / "_temporary").mkdir()
    (directory / "_temporary" / f"0{ending}").write_text("x")
    return directory


def all_sources(folder: Path) -> dict[str, tuple[Source, pa.Table]]:
    """Every kind of source, and what is in it."""
    table, flat = example_table(), flat_table()
    pq.write_table(table, folder / "one.parquet", row_group_size=ROWS)
    pq.write_table(table, folder / "groups.pq", row_group_size=7)
    write_ipc(table, folder / "x.arrow", 13)
    write_ipc(table, folder / "x.feather", 9, "lz4")
    write_stream(table, folder / "x.arrows")
    csv.write_csv(flat, folder / "x.csv")
    csv.write_csv(flat, folder / "x.tsv", csv.WriteOptions(delimiter="\t"))
    (folder / "x.csv.gz").write_bytes(gzip.compress((folder / "x.csv").read_bytes()))
    pq.write_table(table, folder / "no_extension")
    parquet_parts = write_parts(
        folder / "parquets", ".parquet", lambda t, p: pq.write_table(t, p, row_group_size=8), table
    )
    ipc_parts = write_parts(folder / "ipcs", ".arrow", lambda t, p: write_ipc(t, p, 8), table)
    csv_parts = write_parts(folder / "csvs", ".csv", csv.write_csv, flat)
    chunked = pa.concat_tables([table.slice(0, 17), table.slice(17, 0), table.slice(17)])
    kinds: dict[str, tuple[Any, pa.Table]] = {
        "one row group": (folder / "one.parquet", table),
        "row groups": (str(folder / "groups.pq"), table),
        "IPC": (folder / "x.arrow", table),
        "compressed IPC": (folder / "x.feather", table),
        "IPC stream": (folder / "x.arrows", table),
        "CSV": (folder / "x.csv", flat),
        "TSV": (folder / "x.tsv", flat),
        "compressed CSV": (folder / "x.csv.gz", flat),
        "Parquet without extension": (folder / "no_extension", table),
        "Parquet directory": (parquet_parts, table),
        "IPC directory": (f"{ipc_parts}/", table),
        "CSV directory": (csv_parts, flat),
        "URI": ((folder / "one.parquet").as_uri(), table),
        "table": (table, table),
        "table of chunks": (chunked, table),
        "reader": (table.to_reader(max_chunksize=9), table),
        "dataset": (ds.dataset(folder / "groups.pq").filter(ds.field("number") >= 50), None),
    }
    opened = {kind: (open_source(data), table) for kind, (data, table) in kinds.items()}
    opened["dataset"] = (opened["dataset"][0], table.slice(50))
    return opened


KINDS = [
    "one row group",
    "row groups",
    "IPC",
    "compressed IPC",
    "IPC stream",
    "CSV",
    "TSV",
    "compressed CSV",
    "Parquet without extension",
    "Parquet directory",
    "IPC directory",
    "CSV directory",
    "URI",
    "table",
    "table of chunks",
    "reader",
    "dataset",
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Source, pa.Table]]:
    found = all_sources(tmp_path_factory.mktemp("sources"))
    assert list(found) == KINDS
    return found


def travelled(source: Source) -> Source:
    """The source as another process opens it."""
    description = json.loads(json.dumps(source.description()))
    if isinstance(source, FileSource):
        return reopen(description)
    assert isinstance(source, TableSource)
    memory = bytearray(source.ipc_size())
    with pa.FixedSizeBufferWriter(pa.py_buffer(memory)) as sink:
        source.write_ipc(sink)
        assert sink.tell() == len(memory)
    return reopen(description, pa.py_buffer(memory))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_any_range_is_what_a_whole_reading_gives(
    kind: str, data: st.DataObject, opened: dict[str, tuple[Source, pa.Table]]
) -> None:
    source, table = opened[kind]
    if data.draw(st.booleans(), "in another process"):
        source = travelled(source)
    names = data.draw(st.permutations(table.column_names))
    columns = names[: data.draw(st.integers(1, len(names)))]
    if data.draw(st.booleans(), "select first"):
        source = source.select(sorted(columns))
    start = data.draw(st.integers(0, table.num_rows))
    stop = data.draw(st.integers(start, table.num_rows))
    batch_rows = data.draw(st.integers(1, ROWS + 1))
    batches = list(source.batches(columns, start, stop, batch_rows))
    assert all(1 <= batch.num_rows <= batch_rows for batch in batches)
    schema = pa.schema([source.schema.field(name) for name in columns])
    assert all(batch.schema.equals(schema) for batch in batches)
    found = pa.Table.from_batches(batches, schema)
    expected = table.slice(start, stop - start).select(columns)
    assert found.to_pydict() == expected.to_pydict()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_schema(kind: str, opened: dict[str, tuple[Source, pa.Table]]) -> None:
    source, table = opened[kind]
    for each in (source, travelled(source)):
        assert each.rows == table.num_rows
        assert each.schema.equals(table.schema)
        assert each.name == source.name
    assert source.select(["number"]).schema.names == ["number"]


def test_a_directory_is_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b", "a/2", "a/10", "A", "a.x"):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"name": [name]}), path)
    [*batches] = open_source(tmp_path).batches(["name"], 0, 5)
    order = [name for batch in batches for name in batch["name"].to_pylist()]
    assert order == ["A", "a.x", "a/10", "a/2", "b"]


def test_the_files_of_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes through the file system of the URI, by paths as it writes them."""
    pq.write_table(example_table(), tmp_path / "x.parquet", row_group_size=20)
    write_ipc(example_table(), tmp_path / "x.arrow", 20)
    bucket = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    found = sources.filesystem_of
    monkeypatch.setattr(
        sources,
        "filesystem_of",
        lambda uri: (bucket, uri[len("s3://user:secret@") :]) if uri else found(uri),
    )
    for file in ("x.parquet", "x.arrow"):
        source = open_source(f"s3://user:secret@{file}")
        assert source.name == f"s3://{file}"
        batches = list(travelled(source).batches(["number"], 15, 45))
        numbers = np.concatenate([batch["number"].to_numpy() for batch in batches])
        assert numbers.tolist() == list(range(15, 45))


def test_only_the_row_groups_that_overlap_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": np.arange(30)}), path, row_group_size=10, use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(2).column(0)
    with path.open("r+b") as file:
        file.seek(group.data_page_offset)
        file.write(b"\xff" * 16)
    source = open_source(path)
    assert sum(batch.num_rows for batch in source.batches(["x"], 0, 20)) == 20
    with pytest.raises(InputError, match=r"cannot read .*x\.parquet"):
        list(source.batches(["x"], 20, 30))


def test_views_become_strings(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array(["x", None], pa.string_view()),
            "b": pa.array([b"x", b"y"], pa.binary_view()),
        }
    )
    write_ipc(table, tmp_path / "x.arrow", 2)
    for source in (open_source(table), open_source(tmp_path / "x.arrow")):
        assert source.schema.types == [pa.string(), pa.binary()]
        [batch] = source.batches(["b", "a"], 0, 2)
        assert batch.to_pydict() == {"b": [b"x", b"y"], "a": ["x", None]}


def test_different_dictionaries_travel_as_one() -> None:
    chunks = [pa.array(text).dictionary_encode() for text in (["b", "a"], ["c", "b"])]
    source = travelled(open_source(pa.table({"x": pa.chunked_array(chunks)})))
    values = [batch["x"].to_pylist() for batch in source.batches(["x"], 0, 4)]
    assert values == [["b", "a"], ["c", "b"]]


def test_dictionaries_with_nulls_and_too_many_values_for_their_places(tmp_path: Path) -> None:
    """Each of these pyarrow by itself does not put together."""
    texts = [["b", None, *map(str, range(100))], [None, "a", *map(str, range(200, 300))]]
    places = pa.array(range(102), pa.int8())
    chunks = [pa.DictionaryArray.from_arrays(places, pa.array(each)) for each in texts]
    table = pa.table({"x": pa.chunked_array(chunks)})
    for number, chunk in enumerate(chunks):
        write_ipc(pa.table({"x": chunk}), tmp_path / f"{number}.arrow", 102)
    for source in (travelled(open_source(table)), open_source(tmp_path)):
        batches = map(widened, source.batches(["x"], 0, 204))
        found = pa.Table.from_batches(batches).unify_dictionaries()
        assert found["x"].to_pylist() == [*texts[0], *texts[1]]
    assert source.schema == table.schema


def test_a_table_is_reopened_without_copying() -> None:
    source = open_source(pa.table({"x": np.arange(100_000)}))
    assert isinstance(source, TableSource)
    sink = pa.BufferOutputStream()
    source.write_ipc(sink)
    buffer = sink.getvalue()
    before = pa.total_allocated_bytes()
    [batch] = reopen(source.description(), buffer).batches(["x"], 0, 100_000, 100_000)
    assert pa.total_allocated_bytes() - before < 10_000
    assert buffer.address <= batch["x"].buffers()[1].address < buffer.address + buffer.size


def test_csv_types_of_a_directory_are_unified(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b,c\n1,,x\n")
    (tmp_path / "2.csv").write_text("a,b,c\n1.5,2,y\n")
    (tmp_path / "3.csv").write_text("a,b,c\n")
    source = open_source(tmp_path)
    assert source.schema.types == [pa.float64(), pa.int64(), pa.string()]
    [*batches] = source.batches(["a", "b"], 0, 2)
    table = pa.Table.from_batches(batches)
    assert table.to_pydict() == {"a": [1.0, 1.5], "b": [None, 2]}


def test_csv_headers_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'\xef\xbb\xbfPAR1,"a b"\r\n1,"x\r\ny"\r\n')
    [batch] = open_source(tmp_path / "x.csv").batches(["PAR1", "a b"], 0, 1)
    assert batch.to_pydict() == {"PAR1": [1], "a b": ["x\r\ny"]}
    (tmp_path / "y.csv").write_text("PAR1,FEA1\n1,2\n")
    assert open_source(tmp_path / "y.csv").schema.names == ["PAR1", "FEA1"]


def test_large_csv_with_line_breaks_in_quotes(tmp_path: Path) -> None:
    lines = "".join(f'"line {n}\nmore",{n}\n' for n in range(100_000))
    (tmp_path / "x.csv").write_text(f"text,n\n{lines}")
    assert open_source(tmp_path / "x.csv").rows == 100_000


# What a user may get wrong


def no_parquet(folder: Path) -> Path:
    (folder / "x.parquet").write_text("hello, this is text\n")
    return folder / "x.parquet"


def truncated(folder: Path, ending: str, write: Callable[[Path], None]) -> Path:
    path = folder / f"cut{ending}"
    write(path)
    path.write_bytes(path.read_bytes()[:-20])
    return path


def text(folder: Path, name: str, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(content)
    return folder / name


def two(folder: Path, **files: pa.Table) -> Path:
    for name, table in files.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.csv")
    return folder


def with_twins(folder: Path) -> Path:
    twins = pa.table([pa.array([1]), pa.array([2])], ["age", "age"])
    pq.write_table(twins, folder / "x.parquet")
    return folder / "x.parquet"


def formats(folder: Path) -> Path:
    pq.write_table(example_table(), folder / "a.parquet")
    csv.write_csv(flat_table(), folder / "b.csv")
    return folder


def unreadable(folder: Path) -> Path:
    path = text(folder, "x.csv", "a\n1\n")
    path.chmod(0)
    return path


BAD: list[tuple[str, Callable[[Path], Any], list[str]]] = [
    ("missing", lambda f: f / "no such.csv", ["no such.csv", "DATA"]),
    ("below a file", lambda f: text(f, "x.csv", "a\n1\n") / "y.csv", ["y.csv"]),
    ("empty path", lambda f: "", ["DATA", "empty"]),
    ("NUL", lambda f: "a\0b", [r"'a\x00b'"]),
    ("line break", lambda f: f / "no\nfile", [r"no\nfile"]),
    ("device", lambda f: "/dev/null", ["/dev/null", "regular file"]),
    ("empty file", lambda f: text(f, "x.parquet", ""), ["x.parquet", "empty"]),
    ("empty CSV", lambda f: text(f, "x.csv", ""), ["x.csv", "empty"]),
    ("blank CSV", lambda f: text(f, "x.csv", "\n\n\n"), ["x.csv"]),
    ("header only", lambda f: text(f, "x.csv", "a,b\n"), ["x.csv", "no rows"]),
    ("no rows", lambda f: two(f, x=example_table(0)) / "x.parquet", ["x.parquet", "no rows"]),
    ("text as Parquet", no_parquet, ["x.parquet", "does not begin as"]),
    ("unknown", lambda f: text(f, "x.json", "{}"), ["x.json", ".csv"]),
    (
        "truncated Parquet",
        lambda f: truncated(f, ".parquet", lambda p: pq.write_table(example_table(), p)),
        ["cut.parquet", "whole"],
    ),
    (
        "truncated IPC",
        lambda f: truncated(f, ".feather", lambda p: write_ipc(example_table(), p, 9)),
        ["cut.feather", "whole"],
    ),
    (
        "truncated stream",
        lambda f: truncated(f, ".arrows", lambda p: write_stream(example_table(), p)),
        ["cut.arrows", "whole"],
    ),
    (
        "truncated gzip",
        lambda f: text(f, "x.csv.gz", gzip.compress(b"a\n" + b"1\n" * 999)[:-12]),
        ["x.csv.gz", "whole"],
    ),
    ("no gzip", lambda f: text(f, "x.csv.gz", "a\n1\n"), ["x.csv.gz"]),
    ("Feather V1", lambda f: text(f, "x.feather", b"FEA1\0\0\0\0abc"), ["x.feather", "version"]),
    ("ragged", lambda f: text(f, "x.csv", "a,b\n1,2\n3\n"), ["row 2 of", "x.csv", "1 values"]),
    ("ragged", lambda f: text(f, "x.tsv", "a\tb\n1\t2\t3\n"), ["row 1 of", "x.tsv", "3 values"]),
    (
        "ragged Latin-1",
        lambda f: text(f, "x.csv", "a,b\n1,2\né\n".encode("latin-1")),
        ["row 2 of", "x.csv", "1 values"],
    ),
    ("UTF-16", lambda f: text(f, "x.csv", "a,b\n1,2\n".encode("utf-16")), ["x.csv"]),
    ("Latin-1", lambda f: text(f, "x.csv", "é,b\n1,2\n".encode("latin-1")), ["x.csv", "utf-8"]),
    ("twins", with_twins, ["x.parquet", "'age'"]),
    ("twins in CSV", lambda f: text(f, "x.csv", "a,b,a\n1,2,3\n"), ["x.csv", "'a'", "header"]),
    ("empty directory", lambda f: f, ["no files"]),
    ("pipe", pipe, ["x.csv", "regular file"]),
    ("formats", formats, ["b.csv", "a.parquet", "one format"]),
    (
        "names",
        lambda f: two(f, a=pa.table({"x": [1]}), b=pa.table({"y": [1]})),
        ["b.parquet", "a.parquet", "names"],
    ),
    (
        "types",
        lambda f: two(f, a=pa.table({"x": [1]}), b=pa.table({"x": [1.0]})),
        ["b.parquet", "a.parquet", "'x'", "int64", "double"],
    ),
    ("one is empty", lambda f: text(two(f, a=example_table()), "b.parquet", "").parent, ["b.parq"]),
    ("scheme", lambda f: "nonsense://bucket/x.csv", ["nonsense://bucket/x.csv"]),
    ("secret", lambda f: "nonsense://user:secret@bucket/x.csv", ["nonsense://bucket/x.csv"]),
    ("syntax", lambda f: "file:///tmp/a b", ["file:///tmp/a b"]),
    ("URI of nothing", lambda f: (f / "x.csv").as_uri(), ["x.csv", "no file"]),
    ("other object", lambda f: [1, 2], ["DATA", "list"]),
    ("table without rows", lambda f: example_table(0), ["DATA", "no rows"]),
    ("table without columns", lambda f: pa.table({}), ["DATA", "no rows"]),
    ("twins in table", lambda f: pa.table([[1], [2]], ["a", "a"]), ["DATA", "'a'"]),
    ("unreadable", unreadable, ["x.csv", "Permission"]),
]


@pytest.mark.parametrize(("make", "said"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_bad_input_is_one_line(
    make: Callable[[Path], Any],
    said: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if make is unreadable and os.geteuid() == 0:
        pytest.skip("root may read everything")
    with pytest.raises(InputError) as caught:
        open_source(make(tmp_path))
    message = str(caught.value)
    assert message.isprintable()
    assert "secret" not in message
    for part in said:
        assert part in message
    assert capfd.readouterr() == ("", "")


def test_types_of_csv_files_that_do_not_go_together(tmp_path: Path) -> None:
    text(tmp_path, "a.csv", "x\n1\n")
    text(tmp_path, "b.csv", "x\nred\n")
    with pytest.raises(InputError, match=r"b\.csv and .*a\.csv differ in column 'x': string and"):
        open_source(tmp_path)


def test_files_are_named_as_the_user_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    text(tmp_path / "data", "x.parquet", "no")
    monkeypatch.chdir(tmp_path)
    for path in ("data", "data/", "./data"):
        with pytest.raises(InputError, match=rf"^{path.rstrip('/')}/x\.parquet does not"):
            open_source(path)


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_file_that_shrank(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    writers = {".parquet": pq.write_table, ".arrow": lambda t, p: write_ipc(t, p, 100)}
    writers[ending](example_table(30), path)
    source = open_source(path)
    path.unlink()
    writers[ending](example_table(20), path)
    with pytest.raises(InputError, match="has changed since it was opened") as caught:
        list(source.batches(["number"], 10, 30))
    assert str(path) in str(caught.value)


def test_an_ipc_file_with_wrong_offsets_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_ipc(pa.table({"x": ["abc", "def"]}), path, 2)
    content = path.read_bytes()
    offsets = np.array([0, 3, 6], np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 2**30, 6], np.int32).tobytes()))
    source = open_source(path)
    with pytest.raises(InputError, match=r"cannot read .*x\.arrow"):
        list(source.batches(["x"], 0, 2))


def test_importing_takes_no_other_modules_of_pyarrow() -> None:
    code = (
        "import sys, dist_dnn.data.sources, dist_dnn.data.targets\n"
        "heavy = {'pyarrow.' + name for name in ('parquet', 'csv', 'dataset', 'compute', 'fs')}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
