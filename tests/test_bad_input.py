"""Every mistake of a user's is one line on standard error, exit status 2, and nothing written."""

import json
import math
import os
import pickle
import random
import re
import shlex
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from commands import run, run_alone

from dist_dnn.errors import InputError
from dist_dnn.model import Model

ROOT = Path(__file__).parents[1]
ROWS = 40
AT_A_TIME = os.cpu_count() or 1
"""So many commands run at a time."""

Change = Callable[[Path], object]
"""What is done to a case's folder beforehand."""


class Case(NamedTuple):
    """A command, and what it must say; its folder holds ``data.parquet`` and the run ``run``.

    Attributes:
        given: what is added to its environment.
    """

    command: str
    said: tuple[str, ...]
    change: Change = lambda folder: None
    mark: Any = ()
    given: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """What came of a command."""

    status: int
    stdout: str
    stderr: str
    before: dict[str, bytes | None]
    after: dict[str, bytes | None]


# Commands


def train(flags: str = "", workers: int = 0) -> str:
    return f"train data.parquet --target kind --out new --workers {workers} {flags}"


RESUME = "train data.parquet --out run --resume --workers 0"
EVALUATE = "evaluate run data.parquet"
PREDICT = "predict run data.parquet --out new.parquet"
DIGEST = "digest run"
DESCRIBE = "describe data.parquet"
PLAN = "plan 784 10 --batch-size 8"


# Folders


def table(**columns: Any) -> pa.Table:
    """Heights, widths and three kinds; ``columns`` are added or take the place of these."""
    numbers = np.arange(ROWS)
    given = {"height": numbers / 7, "width": numbers % 5, "kind": numbers % 3}
    return pa.table(given | columns)


def data(**columns: Any) -> Change:
    return lambda folder: pq.write_table(table(**columns), folder / "data.parquet")


def values(*flaws: tuple[int, Any]) -> Any:
    """Numbers, and what is in some rows, which count from 1, instead of them."""
    numbers: list[Any] = [number / 3 for number in range(ROWS)]
    for row, value in flaws:
        numbers[row - 1] = value
    return pa.array(numbers, pa.float64(), from_pandas=False)


def lists(row: int, value: Any) -> Any:
    """Lists of two numbers, and what is in one row instead."""
    pairs: list[Any] = [[1, number] for number in range(ROWS)]
    pairs[row - 1] = value
    return pa.array(pairs, pa.list_(pa.float32(), 2))


def without(*columns: str) -> Change:
    return lambda folder: pq.write_table(
        table().drop_columns(list(columns)), folder / "data.parquet"
    )


def no_rows(folder: Path) -> None:
    pq.write_table(table().slice(0, 0), folder / "data.parquet")


def truncated(name: str, size: int = -20) -> Change:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return cut


def text(name: str, content: str | bytes) -> Change:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def folder(name: str, *, empty: bool = True) -> Change:
    def make(inside: Path) -> None:
        (inside / name).mkdir()
        if not empty:
            (inside / name / "notes.txt").write_text("mine")

    return make


def unwritable(inside: Path) -> None:
    (inside / "locked").mkdir(mode=0o500)


def toml(content: str | bytes) -> Change:
    return text("my.toml", content)


# Model files


class ModelFile:
    """A safetensors file taken apart: a header and the bytes of the tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        self.header = json.loads(content[8 : 8 + size])
        self.tensors = content[8 + size :]

    def write(self, header: bytes | None = None, size: int | None = None) -> None:
        header = json.dumps(self.header).encode() if header is None else header
        size = len(header) if size is None else size
        self.path.write_bytes(size.to_bytes(8, "little") + header + self.tensors)


def header(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the header of the run's model file."""

    def write(inside: Path) -> None:
        file = ModelFile(inside / "run" / "model.safetensors")
        change(file.header)
        file.write()

    return write


def metadata(content: str) -> Change:
    """Replace what the model file says of the model."""
    return header(lambda header: header["__metadata__"].update(dist_dnn=content))


def described(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change what the model file says of the model."""

    def change_text(header: dict[str, Any]) -> None:
        description = json.loads(header["__metadata__"]["dist_dnn"])
        change(description)
        header["__metadata__"]["dist_dnn"] = json.dumps(description)

    return header(change_text)


def layer_sizes(*sizes: Any) -> Change:
    return described(lambda model: model["network"].update(layer_sizes=list(sizes)))


def tensor(name: str, **changes: Any) -> Change:
    return header(lambda header: header[name].update(changes))


def renamed(header: dict[str, Any]) -> None:
    header["V1"] = header.pop("W1")


def float64(inside: Path) -> None:
    file = ModelFile(inside / "run" / "model.safetensors")
    for name, entry in file.header.items():
        if name != "__metadata__":
            entry["dtype"] = "F64"
            entry["data_offsets"] = [2 * offset for offset in entry["data_offsets"]]
    file.tensors *= 2
    file.write()


def not_finite(inside: Path) -> None:
    file = ModelFile(inside / "run" / "model.safetensors")
    file.tensors = np.float32(np.nan).tobytes() + file.tensors[4:]
    file.write()


def header_size(size: int) -> Change:
    return lambda inside: ModelFile(inside / "run" / "model.safetensors").write(size=size)


def model_file(content: str | bytes) -> Change:
    return text("run/model.safetensors", content)


def model_folder(inside: Path) -> None:
    (inside / "run" / "model.safetensors").unlink()
    (inside / "run" / "model.safetensors").mkdir()


def damaged_checkpoints(inside: Path) -> None:
    for path in (inside / "run" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])


NEITHER = "is truncated or no safetensors file"
NO_MODEL = "holds no model of dist_dnn"
NEEDS_ROOT_NOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")


CASES = {
    # data
    "no target column": Case(train("--target kin"), ("data.parquet", "'kin'", "mean 'kind'?")),
    "no target column, workers": Case(train("--target q", workers=2), ("'q'", "'height', 'width'")),
    "no target column, text": Case(
        train("--target kinds"), ("'kinds'", "mean 'kind'?"), data(kind=["a", "b"] * 20)
    ),
    "no feature column": Case(
        train("--features height,widht"), ("data.parquet", "'widht'", "mean 'width'?")
    ),
    "feature twice": Case(train("--features width,width"), ("--features", "'width'")),
    "target as feature": Case(train("--features width,kind"), ("--features", "'kind'")),
    "target twice": Case(train("--target kind,width,kind"), ("target", "'kind' more than once")),
    "target without a name": Case(train("--target kind,"), ("target", "a list of such names")),
    "no second target column": Case(train("--target kind,widht"), ("mean 'width'?",)),
    "second target as feature": Case(
        train("--target kind,width --features height,width"), ("--features", "'width'")
    ),
    "exclude the second target": Case(
        train("--target kind,width --exclude width"), ("'width'", "out of --exclude")
    ),
    "categorical second target": Case(
        train("--target kind,width --categorical width"), ("--categorical", "'width'", "no feature")
    ),
    "several targets, one of text": Case(
        train("--target width,name"),
        ("'name'", "string", "several targets", "numbers"),
        data(name=["a"] * 40),
    ),
    "several targets, one of booleans": Case(
        train("--target width,flag", workers=2), ("'flag'", "bool"), data(flag=[True] * 40)
    ),
    "several targets of classes": Case(
        train("--target width,kind --task multiclass"), ("--task multiclass", "'width', 'kind'")
    ),
    "null in a second target": Case(
        train("--target kind,width"),
        ("target column 'width' has a null in row 9",),
        data(width=values((9, None))),
    ),
    "second target too large to standardise": Case(
        train("--target kind,width"), ("'width'", "too large"), data(width=values((1, 1e300)))
    ),
    "no feature beside several targets": Case(
        train("--target kind,width,height"), ("targets 'kind', 'width', 'height'", "--features")
    ),
    "no feature left": Case(train(), ("'kind'", "--features"), without("height", "width")),
    "feature of bytes": Case(
        train(), ("data.parquet", "'name'", "binary", "--exclude"), data(name=[b"x"] * ROWS)
    ),
    "exclude no column": Case(train("--exclude widht"), ("data.parquet", "mean 'width'?")),
    "exclude the target": Case(train("--exclude kind"), ("'kind'", "take it out of --exclude")),
    "exclude all": Case(train("--exclude width,height"), ("no feature", "'kind'", "--features")),
    "exclude a feature": Case(
        train("--exclude width --features width"), ("features and exclude", "'width'")
    ),
    "exclude a category": Case(
        train("--exclude width --categorical width"), ("exclude and categorical", "'width'")
    ),
    "categorical and passthrough": Case(
        train("--categorical width --passthrough width"), ("categorical and passthrough", "'width'")
    ),
    "categorical no column": Case(train("--categorical widht"), ("mean 'width'?",)),
    "categorical target": Case(train("--categorical kind"), ("--categorical", "no feature")),
    "categorical lists": Case(
        train("--categorical pair"),
        ("'pair' of data.parquet", "take it out of --categorical"),
        data(pair=lists(1, [3, 4])),
    ),
    "passthrough no feature": Case(
        train("--features height --passthrough width"), ("--passthrough", "'width'", "no feature")
    ),
    "passthrough text": Case(
        train("--passthrough name"),
        ("'name' of data.parquet", "string", "take it out of --passthrough"),
        data(name=["x"] * ROWS),
    ),
    "no categories": Case(train("--max-categories 0"), ("--max-categories", "above 0", "'0'")),
    "frequency 0": Case(train("--min-frequency 0"), ("--min-frequency", "between 0 and 1")),
    "frequency 1": Case(train("--min-frequency 1"), ("--min-frequency", "between 0 and 1")),
    "categorical in TOML": Case(
        train("--config my.toml"), ("my.toml", "categorical"), toml('categorical = "width"\n')
    ),
    "one class": Case(train(), ("data.parquet", "'kind'", "one class"), data(kind=[7] * ROWS)),
    "many integers": Case(
        "train x.csv --target b --out new",
        ("'b' of x.csv", "more than 100", "--task regression"),
        text("x.csv", "a,b\n" + "".join(f"1,{n}\n" for n in range(101))),
    ),
    "few floats": Case(train(), ("'kind'", "--task regression"), data(kind=[1.0, 2.0] * 20)),
    "regression of text": Case(
        train("--task regression"), ("'kind'", "numbers"), data(kind=["a", "b"] * 20)
    ),
    "binary of three": Case(train("--task binary"), ("'kind'", "3 classes", "multiclass")),
    "too large to standardise": Case(
        train(), ("'height'", "too large"), data(height=[1e308, -1e308] * 20)
    ),
    "target too large to standardise": Case(
        train("--task regression"), ("'kind'", "too large"), data(kind=[1e308, -1e308] * 20)
    ),
    "too large to standardise, workers": Case(
        train(workers=2), ("'height'", "too large"), data(height=[1e308, -1e308] * 20)
    ),
    "no rows": Case(train(), ("data.parquet", "no rows"), no_rows),
    "empty file": Case(train(), ("data.parquet", "is empty"), text("data.parquet", "")),
    "header only": Case(
        "train x.csv --target b --out new", ("x.csv", "no rows"), text("x.csv", "a,b\n")
    ),
    "truncated Parquet": Case(train(), ("data.parquet", "whole"), truncated("data.parquet")),
    "truncated Parquet, workers": Case(train(workers=2), ("whole",), truncated("data.parquet")),
    "text as Parquet": Case(train(), ("data.parquet",), text("data.parquet", "height,kind\n1,2\n")),
    "ragged CSV": Case(
        "train x.csv --target b --out new",
        ("row 2 of x.csv", "1 values", "2"),
        text("x.csv", "a,b\n1,2\n3\n"),
    ),
    "infinite in CSV": Case(
        "train x.csv --target b --out new",
        ("'a'", "an infinite value", "row 2 of x.csv"),
        text("x.csv", "a,b\n1,2\ninf,3\n"),
    ),
    "no such file": Case(
        "train no.parquet --target kind --out new", ("no file", "no.parquet", "DATA")
    ),
    "empty directory": Case(
        "train empty --target kind --out new", ("directory empty", "no files"), folder("empty")
    ),
    # validation
    "validation 0": Case(train("--validation 0"), ("--validation", "between 0 and 1", "'0'")),
    "validation 1": Case(train("--validation 1"), ("--validation", "between 0 and 1", "'1'")),
    "validation 1.5": Case(train("--validation 1.5"), ("between 0 and 1", "'1.5'")),
    "validation of nothing": Case(train("--validation 1e-9"), ("validation", "0 of the 40 rows")),
    "validation of all": Case(train("--validation 0.999999"), ("40 of the 40 rows", "fraction")),
    "no validation file": Case(train("--validation no.csv"), ("no.csv", "validation")),
    "validation without a column": Case(
        train("--validation v.csv"), ("v.csv", "'width'"), text("v.csv", "height,kind\n1,2\n")
    ),
    "validation without target": Case(
        train("--validation v.csv"), ("v.csv", "'kind'"), text("v.csv", "height,width\n1,2\n")
    ),
    "infinite in validation": Case(
        train("--validation v.csv"),
        ("'width'", "an infinite value", "row 2 of v.csv"),
        text("v.csv", "height,width,kind\n1,2,1\n1,inf,2\n"),
    ),
    "unseen class in validation": Case(
        train("--validation v.csv", workers=2),
        ("'kind'", "'9'", "row 2 of v.csv"),
        lambda folder: (
            data(name=["a", "b"] * 20)(folder),  # of which there is something to say
            text("v.csv", "height,width,kind,name\n1,2,1,a\n1,2,9,a\n")(folder),
        ),
    ),
    "validation twice": Case(
        train("--validation 0.1 --validation-column held"), ("validation_column", "exclude")
    ),
    "no validation column": Case(train("--validation-column hold"), ("'hold'", "data.parquet")),
    "validation column of numbers": Case(
        train("--validation-column width"), ("'width'", "int64, not bool")
    ),
    "validation column with a null": Case(
        train("--validation-column held", workers=2),
        ("'held' of data.parquet", "a null in row 3"),
        data(held=[True, False, None, *[False] * 37]),
    ),
    "validation column of nothing": Case(
        train("--validation-column held"), ("marks 0 of the 40 rows",), data(held=[False] * 40)
    ),
    "validation column of all": Case(
        train("--validation-column held"), ("marks 40 of the 40 rows",), data(held=[True] * 40)
    ),
    "validation column is the target": Case(
        train("--validation-column kind"), ("'kind'", "is a target"), data(kind=[True] * 40)
    ),
    "validation column as feature": Case(
        train("--validation-column held --features held,width"),
        ("validation_column 'held' is in features", "no feature anyway"),
        data(held=[True, False] * 20),
    ),
    "no test file": Case(train("--test no.csv"), ("no.csv", "correct test")),
    "test without a column": Case(
        train("--test t.csv"), ("t.csv", "'width'"), text("t.csv", "height,kind\n1,2\n")
    ),
    "validation column is a second target": Case(
        train("--target width,held --validation-column held"),
        ("'held'", "is a target"),
        data(held=[True] * 40),
    ),
    "test without target": Case(
        train("--test t.csv"), ("t.csv", "'kind'"), text("t.csv", "height,width\n1,2\n")
    ),
    "unseen class in test": Case(
        train("--test t.csv --validation 0.3", workers=2),
        ("'kind'", "'9'", "row 2 of t.csv"),
        text("t.csv", "height,width,kind\n1,2,1\n1,2,9\n"),
    ),
    "infinite value in test": Case(
        train("--test t.csv"),
        ("'width'", "an infinite value", "row 2 of t.csv"),
        text("t.csv", "height,width,kind\n1,2,1\n1,inf,2\n"),
    ),
    "test of nothing": Case(train("--test ''"), ("--test", "a file", "''")),
    "resume with another test": Case(f"{RESUME} --test t.csv", ("test none", "'t.csv'")),
    "stratify nothing": Case(train("--stratify"), ("stratify", "a fraction")),
    "stratify several targets": Case(
        train("--target kind,width --stratify --validation 0.1"),
        ("stratify", "targets 'kind', 'width'", "leave it out\n"),
    ),
    "stratify numbers": Case(
        train("--task regression --stratify --validation 0.1"), ("stratify", "'kind'", "regression")
    ),
    # weights
    "no weight column": Case(train("--weight heigth"), ("data.parquet", "mean 'height'?")),
    "weights of text": Case(
        train("--weight w"), ("weight column 'w'", "string; give"), data(w=["a"] * ROWS)
    ),
    "weight with a null": Case(
        train("--weight w", workers=2),
        ("weight column 'w' has a null in row 7 of data.parquet",),
        data(w=values((7, None))),
    ),
    "weight with a NaN": Case(
        train("--weight w"), ("'w' has a NaN in row 40",), data(w=values((40, math.nan)))
    ),
    "infinite weight": Case(
        train("--weight w"), ("'w' has an infinite value in row 2",), data(w=values((2, math.inf)))
    ),
    "negative weight": Case(
        train("--weight w", workers=3),
        ("'w' has the weight -0.5 in row 30", "from 0 to 3.4e+38"),
        data(w=values((30, -0.5), (31, None))),
    ),
    "weight above float32": Case(
        train("--weight w"), ("'w' has the weight 1e+39 in row 1",), data(w=values((1, 1e39)))
    ),
    "product of weights above float32": Case(
        train("--weight w --class-weight my.toml"),
        ("row 40 of data.parquet", "times that of its class", "more than float32"),
        lambda folder: (data(w=values((40, 1e38)))(folder), toml("0 = 1e30")(folder)),
    ),
    "no weight at all": Case(
        train("--weight w", workers=2),
        ("no row of the rows to train on in data.parquet", "weight column 'w'"),
        data(w=[0] * ROWS),
    ),
    "no weight held out": Case(
        train("--weight w --validation-column held"),
        ("no row of the rows held out of data.parquet",),
        data(w=[1, 0] * 20, held=[False, True] * 20),
    ),
    "no weight in the test": Case(
        train("--weight w --test t.csv"),
        ("no row of t.csv has a weight above 0",),
        lambda folder: (
            data(w=[1] * ROWS)(folder),
            text("t.csv", "height,width,kind,w\n1,2,1,0\n")(folder),
        ),
    ),
    "weight is the target": Case(train("--weight kind"), ("'kind' is the target",)),
    "weight is a feature": Case(
        train("--weight width --features height,width"), ("'width' is in features", "no feature")
    ),
    "weight is left out": Case(
        train("--weight width --exclude width"), ("'width' is in exclude", "take it out")
    ),
    "weight is the validation column": Case(
        train("--weight width --validation-column width"), ("both 'width'",)
    ),
    "no class weight file": Case(
        train("--class-weight no.toml"),
        ("--class-weight: no.toml: cannot be read", "give 'balanced', or a TOML or JSON file"),
    ),
    "class weights of no TOML": Case(
        train("--class-weight my.toml"), ("my.toml: is no valid TOML",), toml("a: 1")
    ),
    "class weights of no JSON": Case(
        train("--class-weight my.json"), ("my.json: is no valid JSON",), text("my.json", "{")
    ),
    "class weights of nothing": Case(train("--class-weight my.toml"), ("my.toml",), toml("")),
    "class weights in a list": Case(
        train("--class-weight my.json"),
        ("my.json: must hold", '{"class": 2.5}'),
        text("my.json", "[1, 2]"),
    ),
    "negative class weight": Case(
        train("--class-weight my.toml"), ("class '1'", "not -2"), toml("0 = 1\n1 = -2")
    ),
    "class weight of many digits": Case(
        train("--class-weight my.toml"),
        ("class '1'", "not 99999", "...9999"),
        toml(f"1 = {'9' * 400}"),
    ),
    "class weight of text": Case(
        train("--class-weight my.toml"), ("class '1'", "not '2'"), toml("1 = '2'")
    ),
    "weight of an unknown class": Case(
        train("--class-weight my.toml"), ("the class 'x'", "'kind'", "'0', '1', '2'"), toml("x = 1")
    ),
    "class weights of 0": Case(
        train("--class-weight my.toml"), ("by class_weight",), toml("0 = 0\n1 = 0\n2 = 0")
    ),
    "class weights of numbers": Case(
        train("--class-weight balanced --task regression"),
        ("class_weight is for classes", "'kind'", "regression"),
    ),
    "balanced without weight": Case(
        train("--class-weight balanced --weight w", workers=2),
        ("class '1' of the target 'kind' has no weight",),
        data(w=(np.arange(ROWS) % 3 != 1).astype(int)),
    ),
    "class weight in a file": Case(
        train("--config my.toml"), ("my.toml: class_weight must be",), toml("class_weight = 2")
    ),
    "resume with a weight": Case(f"{RESUME} --weight width", ("weight none, not 'width'",)),
    "resume with class weights": Case(
        f"{RESUME} --class-weight balanced", ("class_weight none, not 'balanced'",)
    ),
    "resume with weights of many classes": Case(
        f"{RESUME} --class-weight my.toml",
        ("not {'k1000': 1.0, 'k1001': 1.0, 'k1002': 1.0, 'k1003': 1.0, ...}: leave",),
        toml("\n".join(f"k{number} = 1" for number in range(1000, 3000))),
    ),
    # flags
    "batch size 0": Case(train("--batch-size 0"), ("--batch-size", "above 0", "'full'", "'0'")),
    "batch size -1": Case(train("--batch-size -1"), ("--batch-size", "above 0", "'-1'")),
    "batch size half": Case(train("--batch-size half"), ("--batch-size", "'auto'", "'half'")),
    "batch size above m": Case(train("--batch-size 41"), ("41", "40 training rows", "'full'")),
    "batch size above m, workers": Case(train("--batch-size 41", workers=2), ("41", "40 ")),
    "batch size above what is left": Case(
        train("--batch-size 40 --validation 0.3"), ("batch_size 40", "training rows")
    ),
    "hidden 0": Case(train("--hidden 0"), ("--hidden", "above 0", "'none'", "'0'")),
    "hidden a,b": Case(train("--hidden a,b"), ("--hidden", "whole numbers", "'a,b'")),
    "hidden -3": Case(train("--hidden -3"), ("--hidden", "above 0", "'-3'")),
    "hidden empty": Case(train("--hidden ''"), ("--hidden", "whole numbers", "''")),
    "hidden beyond memory": Case(
        train("--hidden 1000000000,1000000000"), ("1000000000,1000000000", "--hidden", "smaller")
    ),
    "learning rate -1": Case(train("--learning-rate -1"), ("--learning-rate", "above 0", "'-1'")),
    "learning rate 0": Case(train("--learning-rate 0"), ("--learning-rate", "above 0", "'0'")),
    "learning rate nan": Case(train("--learning-rate nan"), ("--learning-rate", "'nan'")),
    "learning rate inf": Case(train("--learning-rate inf"), ("--learning-rate", "'inf'")),
    "learning rate fast": Case(train("--learning-rate fast"), ("a number", "'fast'")),
    "epochs -1": Case(train("--epochs -1"), ("--epochs", "not below 0", "'-1'")),
    "seed -1": Case(train("--seed -1"), ("--seed", "from 0", "'-1'")),
    "shards 0": Case(train("--shards 0"), ("--shards", "from 1", "'0'")),
    "workers -1": Case(train(workers=-1), ("workers", "not below 0", "-1")),
    "workers two": Case(train("--workers two"), ("--workers", "whole number", "'two'")),
    "more workers than shards": Case(train(workers=9), ("9 workers", "8 shards", "--shards 9")),
    "evaluate by nine": Case(
        f"{EVALUATE} --workers 9", ("9 workers", "8 shards", "--workers 8, or train")
    ),
    "unknown flag": Case(train("--learning-rat 1"), ("'--learning-rat'", "mean '--learning-rate'")),
    "unknown flag with value": Case(train("--batchsize=3"), ("mean '--batch-size'?",)),
    "misspelt required flag": Case(
        "train data.parquet --taget kind --oout new", ("'--taget'", "mean '--target'?")
    ),
    "flag of another command": Case(f"{EVALUATE} --epochs 3", ("'--epochs'", "evaluate --help")),
    "one argument too many": Case(train("more"), ("'more'", "train --help")),
    "unknown command": Case("trian data.parquet", ("'trian'", "'train'")),
    "no command": Case("", ("COMMAND", "--help")),
    "unknown activation": Case(train("--activation gelu"), ("--activation", "relu, ", "'gelu'")),
    "unknown optimizer": Case(train("--optimizer adamax"), ("--optimizer", "adamw", "'adamax'")),
    "unknown schedule": Case(train("--schedule linear"), ("--schedule", "cosine", "'linear'")),
    "unknown task": Case(train("--task rank"), ("--task", "multiclass", "'rank'")),
    "unknown backend": Case(train("--backend dask"), ("backend", "local", "'dask'")),
    "unknown progress": Case(train("--progress loud"), ("--progress", "lines", "'loud'")),
    "of another optimizer": Case(
        train("--momentum 0.5"), ("momentum", "momentum or nesterov, not of adam", "leave it out")
    ),
    "of another schedule": Case(train("--schedule-every 2"), ("schedule_every", "schedule step")),
    "no target": Case("train data.parquet --out new", ("--target COLUMN",)),
    "no out": Case("train data.parquet --target kind", ("--out", "train --help")),
    "no data": Case("train --target kind --out new", ("DATA", "train --help")),
    # TOML
    "broken TOML": Case(
        train("--config my.toml"), ("my.toml", "line 2", "TOML"), toml("epochs = 3\nhidden = = 8\n")
    ),
    "unknown key": Case(
        train("--config my.toml"),
        ("my.toml", "'lerning_rate'", "mean 'learning_rate'?"),
        toml("lerning_rate = 0.1\n"),
    ),
    "wrong type": Case(
        train("--config my.toml"), ("my.toml", "epochs", "'3'"), toml("epochs = '3'\n")
    ),
    "target is no text": Case(train("--config my.toml"), ("my.toml", "target"), toml("target = 3")),
    "target is no list of texts": Case(
        train("--config my.toml"), ("my.toml", "target", "[1]"), toml("target = [1]")
    ),
    "target is an empty list": Case(
        train("--config my.toml"), ("my.toml", "target", "[]"), toml("target = []")
    ),
    "invalid but overridden": Case(
        train("--config my.toml --learning-rate 0.1"),
        ("my.toml", "learning_rate", "-1"),
        toml("learning_rate = -1\n"),
    ),
    "does not go together": Case(
        train("--config my.toml --optimizer sgd"),
        ("my.toml", "momentum", "not of sgd"),
        toml("optimizer = 'nesterov'\nmomentum = 0.8\n"),
    ),
    "too deep TOML": Case(
        train("--config my.toml"), ("my.toml", "TOML"), toml(f"hidden = {'[' * 9999}")
    ),
    "TOML in Latin-1": Case(
        train("--config my.toml"), ("my.toml", "UTF-8"), toml("task = 'é'".encode("latin-1"))
    ),
    "no TOML file": Case(train("--config no.toml"), ("no.toml", "--config")),
    "TOML is a folder": Case(train("--config run"), ("run", "--config")),
    # run directories
    "run is a file": Case(train(), ("new exists", "--out"), text("new", "mine")),
    "run is an empty folder": Case(train(), ("new exists", "--out"), folder("new")),
    "run is a folder": Case(train(), ("new exists", "--out"), folder("new", empty=False)),
    "run is a dead link": Case(
        train(), ("new exists", "--out"), lambda f: (f / "new").symlink_to("nowhere")
    ),
    "run below a file": Case(train("--out data.parquet/new"), ("data.parquet", "a file", "--out")),
    "run is nowhere": Case(train("--out ''"), ("exists", "--out")),
    "run name too long": Case(train(f"--out {'n' * 300}"), ("cannot be made", "--out")),
    "run in a locked folder": Case(
        train("--out locked/new"), ("locked", "not writable", "--out"), unwritable, NEEDS_ROOT_NOT
    ),
    "run in /proc": Case(train("--out /proc/new"), ("/proc/new", "--out"), mark=NEEDS_PROC),
    # resuming
    "resume nothing": Case(f"{RESUME} --out nowhere", ("no run nowhere", "--resume=auto")),
    "resume what is no run": Case(f"{RESUME} --out x", ("x is no run",), folder("x")),
    "resume a complete run": Case(RESUME, ("run is complete", "nothing to resume", "--epochs")),
    "resume with fewer epochs": Case(f"{RESUME} --epochs 0", ("run is complete",)),
    "resume another experiment": Case(
        f"{RESUME} --epochs 3 --learning-rate 0.5", ("learning_rate 0.001, not 0.5", "--out")
    ),
    "resume several targets": Case(
        f"{RESUME} --epochs 3 --target kind,width", ("'kind'", "['kind', 'width']")
    ),
    "resume another target": Case(f"{RESUME} --epochs 3 --target width", ("'kind'", "'width'")),
    "resume with other data": Case(
        f"{RESUME} --epochs 3", ("data has changed", "other values"), data(kind=[0, 1] * 20)
    ),
    "resume with other columns, workers": Case(
        f"{RESUME} --epochs 3 --workers 2",
        ("data has changed", "column 'extra'"),
        data(extra=[1.5] * ROWS),
    ),
    "resume without a sound checkpoint": Case(
        f"{RESUME} --epochs 3", ("none of the 2 checkpoints", "is sound"), damaged_checkpoints
    ),
    "resume maybe": Case(train("--resume=maybe"), ("--resume", "'maybe'")),
    "checkpoint every 5m": Case(train("--checkpoint-every 5m"), ("checkpoint_every", "'5m'")),
    "checkpoint every 0": Case(train("--checkpoint-every 0"), ("checkpoint_every", "above 0")),
    "keep 0": Case(train("--keep 0"), ("keep", "above 0")),
    "keep all": Case(train("--keep all"), ("--keep", "whole number")),
    "max failures -1": Case(train("--max-failures -1"), ("max_failures", "at least 0")),
    "step timeout 0": Case(train("--step-timeout 0"), ("step_timeout", "above 0")),
    "step timeout soon": Case(train("--step-timeout soon"), ("--step-timeout", "'soon'")),
    "on divergence": Case(train("--on-divergence hope"), ("--on-divergence", "rollback")),
    "schedule epochs": Case(train("--schedule-epochs 0"), ("--schedule-epochs", "above 0")),
    # describe
    "describe nothing": Case("describe no.csv", ("no.csv", "DATA")),
    "describe without target": Case(f"{DESCRIBE} --target kin", ("'kin'", "mean 'kind'?")),
    "describe a target twice": Case(f"{DESCRIBE} --target kind,kind", ("'kind' more than once",)),
    "describe no task": Case(f"{DESCRIBE} --target kind --task rank", ("--task", "'rank'")),
    "describe a null weight": Case(
        f"{DESCRIBE} --weight w", ("'w' has a null in row 3",), data(w=values((3, None)))
    ),
    "describe classes without target": Case(
        f"{DESCRIBE} --class-weight balanced", ("--class-weight", "--target COLUMN")
    ),
    "describe an infinite value": Case(
        DESCRIBE, ("'width'", "infinite", "row 17 of"), data(width=values((17, np.inf)))
    ),
    "describe a null target": Case(
        f"{DESCRIBE} --target width", ("'width'", "a null", "row 9"), data(width=values((9, None)))
    ),
    "describe an unknown flag": Case(f"{DESCRIBE} --excluded x", ("mean '--exclude'?",)),
    "describe with unknown columns": Case(f"{DESCRIBE} --passthrough x", ("no column 'x'",)),
    "describe by more workers than shards": Case(f"{DESCRIBE} --workers 9", ("--shards 9",)),
    "describe by an unknown backend": Case(f"{DESCRIBE} --backend dask", ("backend", "'dask'")),
    # other commands
    "digest of a folder": Case("digest x", ("x is no run", "model.safetensors"), folder("x")),
    "digest of nothing": Case("digest nowhere", ("nowhere is no run directory",)),
    "digest of a file": Case("digest data.parquet", ("data.parquet is no run directory",)),
    "digest of a long name": Case(f"digest {'n' * 5000}", ("is no run directory",)),
    "evaluate a folder": Case("evaluate x data.parquet", ("x is no run",), folder("x")),
    "evaluate nothing": Case("evaluate nowhere data.parquet", ("nowhere is no run",)),
    "predict by nothing": Case("predict nowhere data.parquet --out y", ("nowhere is no run",)),
    "evaluate no such data": Case("evaluate run no.csv", ("no.csv", "DATA")),
    "evaluate without a feature": Case(EVALUATE, ("data.parquet", "'width'"), without("width")),
    "evaluate without target": Case(EVALUATE, ("data.parquet", "'kind'"), without("kind")),
    "evaluate an unseen class": Case(
        EVALUATE, ("'kind'", "'7'", "row 8 of data.parquet"), data(kind=[*[1] * 7, *[7] * 33])
    ),
    "evaluate an unseen class, workers": Case(
        f"{EVALUATE} --workers 2", ("'kind'", "'3'", "row 4 of"), data(kind=np.arange(ROWS))
    ),
    "evaluate another type": Case(
        EVALUATE, ("'kind'", "string", "int64"), data(kind=["a", "b"] * 20)
    ),
    "evaluate another width": Case(
        EVALUATE,
        ("'width'", "2", "1"),
        data(width=pa.array([[1, 2]] * ROWS, pa.list_(pa.int64(), 2))),
    ),
    "evaluate text": Case(EVALUATE, ("'width'", "string"), data(width=["x"] * ROWS)),
    "evaluate of infinity": Case(
        EVALUATE,
        ("'width'", "infinite", "row 17 of data.parquet"),
        data(width=values((17, np.inf))),
    ),
    "predict without a feature": Case(PREDICT, ("data.parquet", "'width'"), without("width")),
    "predict of infinity": Case(
        PREDICT, ("'width'", "infinite", "row 1 of"), data(width=values((1, np.inf)))
    ),
    "predict far off": Case(
        PREDICT, ("'width'", "row 40 of", "too far"), data(width=values((40, 1e300)))
    ),
    "predict of infinity, workers": Case(
        f"{PREDICT} --workers 2",
        ("'width'", "infinite", "row 40 of"),
        data(width=values((40, np.inf))),
    ),
    "predict no rows": Case(PREDICT, ("data.parquet has no rows",), no_rows),
    "predict by more workers than shards": Case(f"{PREDICT} --workers 9", ("--workers 8",)),
    "predict by unknown backend": Case(f"{PREDICT} --backend dask", ("backend", "local", "'dask'")),
    "predict without --out": Case("predict run data.parquet", ("--out", "predict --help")),
    "predict with unknown columns": Case(
        f"{PREDICT} --columns kind,x", ("no column 'x'", "'kind'")
    ),
    "predict with a column twice": Case(f"{PREDICT} --columns kind,kind", ("'kind' more than",)),
    "predict with a column like its own": Case(
        f"{PREDICT} --columns probability_1",
        ("--columns", "'probability_1'", "rename it in data.parquet"),
        data(probability_1=np.arange(ROWS)),
    ),
    "predict with a column that Parquet has not": Case(
        PREDICT.replace("parquet", "arrow", 1) + " --columns span",
        ("'span'", "month_day_nano_interval", "take it out"),
        lambda folder: feather.write_feather(
            table(span=pa.nulls(ROWS, pa.month_day_nano_interval())), folder / "data.arrow"
        ),
    ),
    "predict to a folder": Case("predict run data.parquet --out run", ("run is a folder", "--out")),
    "predict to nowhere": Case("predict run data.parquet --out no/x", ("no/x", "no folder")),
    "predict to a device": Case("predict run data.parquet --out /dev/null", ("no regular file",)),
    "shapes of one": Case("shapes 784", ("n[0] and n[L]",)),
    "shapes of 0": Case("shapes 784 0 10", ("layer 1", "at least 1")),
    "shapes of -1": Case("shapes 784 -1 10", ("layer 1", "at least 1")),
    "shapes of words": Case("shapes 784 ten", ("whole number", "'ten'")),
    "shapes of batch 0": Case("shapes 784 10 --batch-size 0", ("--batch-size", "above 0")),
    "plan of one": Case("plan 784 --batch-size 8", ("n[0] and n[L]",)),
    "plan without a batch": Case("plan 784 10", ("--batch-size", "plan --help")),
    "plan of batch 0": Case("plan 784 10 --batch-size 0", ("--batch-size", "above 0")),
    "plan of 0 workers": Case(f"{PLAN} --workers 0", ("--workers", "from 1 to 1,024")),
    "plan of many workers": Case(f"{PLAN} --workers 1025", ("--workers", "from 1 to 1,024")),
    "plan of few shards": Case(
        f"{PLAN} --workers 9 --shards 8", ("9 workers", "8 shards", "--shards 9")
    ),
    "plan of no unit": Case(f"{PLAN} --bandwidth 10", ("--bandwidth", "10Gb/s", "'10'")),
    "plan of bandwidth 0": Case(f"{PLAN} --bandwidth 0Gb/s", ("--bandwidth", "above 0")),
    "plan of a rate in bits": Case(f"{PLAN} --flops 9Gb/s", ("--flops", "90GFLOP/s", "'9Gb/s'")),
    "plan of latency -1": Case(
        f"{PLAN} --bandwidth 1GB/s --latency=-1us", ("--latency", "50us", "'-1us'")
    ),
    "plan of latency alone": Case(f"{PLAN} --latency 1us", ("--latency", "--bandwidth")),
    "plan of flops alone": Case(f"{PLAN} --flops 9GFLOP/s", ("--flops", "--bandwidth")),
    "plan verified elsewhere": Case(
        f"{PLAN} --flops 9GFLOP/s --bandwidth 1GB/s --verify", ("--verify", "--flops")
    ),
    "plan of unknown optimizer": Case(f"{PLAN} --optimizer lion", ("--optimizer", "'lion'")),
    "runs of nothing": Case("runs", ("DIR", "runs --help")),
    "runs of no folder": Case("runs no", ("no cannot be looked into", "No such", "a run")),
    "runs of a file": Case(
        "runs data.parquet", ("data.parquet cannot be looked into", "Not a dir")
    ),
    "runs in an unknown state": Case("runs . --state ended", ("--state", "completed", "'ended'")),
    "runs by an unknown key": Case("runs . --sort -acuracy", ("--sort", "mean 'accuracy'?")),
    "runs by no key": Case("runs . --sort", ("--sort", "expected one argument")),
    "runs by a flag": Case("runs . --sort --json", ("--sort", "expected one argument")),
    "runs where nothing": Case("runs . --where loss", ("--where", "'accuracy>0.9'", "'loss'")),
    "runs where unknown": Case("runs . --where rate=1", ("--where", "--json", "'rate'")),
    "runs where words": Case("runs . --where 'epoch>few'", ("--where", "number after >", "'few'")),
    "runs with an unknown flag": Case("runs . --filter x", ("'--filter'", "runs --help")),
    "runs of two folders": Case("runs . run", ("one DIR", "'run'", "runs --help")),
    "diff of none": Case("runs diff", ("diff takes two", "not 0", "runs --help")),
    "diff of one": Case("runs diff run", ("diff takes two", "not 1", "runs --help")),
    "diff of three": Case("runs diff run run run", ("diff takes two", "not 3", "runs --help")),
    "diff in an order": Case("runs --sort -run diff run run", ("--sort", "table", "diff")),
    "diff of some": Case("runs diff run run --where epoch=1", ("--where", "table", "diff")),
    "diff in a state": Case("runs diff run run --state dead", ("--state", "table", "diff")),
    "diff of no run": Case("runs diff run no", ("there is no run no", "train")),
    "diff of a folder": Case(
        "runs diff run empty", ("empty cannot be compared", "status.json"), folder("empty")
    ),
    "watch nothing": Case("watch", ("RUN", "watch --help")),
    "watch no run": Case("watch no", ("there is no run no", "--wait SECONDS")),
    "watch for an age": Case("watch no --wait long", ("--wait", "seconds", "'long'")),
    "watch backwards": Case("watch no --wait -1", ("--wait", "seconds", "'-1'")),
    "watch loudly": Case("watch run --progress loud", ("--progress", "lines", "'loud'")),
    "metrics at no port": Case(train("--metrics-port 65536"), ("metrics_port", "65535", "65536")),
    "metrics at a name": Case(train("--metrics-port http"), ("--metrics-port", "'http'")),
    "metrics without the library": Case(
        train("--metrics-port 0"),
        ("--metrics-port needs prometheus_client", "pip install '.[metrics]'"),
        text("sitecustomize.py", "import sys\nsys.modules['prometheus_client'] = None\n"),
        given={"PYTHONPATH": f".:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
    ),
    "check unknown backend": Case("check --backend dask", ("backend", "local", "'dask'")),
    # model files
    "model is empty": Case(DIGEST, ("run/model.safetensors", NEITHER), model_file("")),
    "model is cut": Case(EVALUATE, (NEITHER,), truncated("run/model.safetensors", -1)),
    "model is pickled": Case(PREDICT, (NEITHER,), model_file(pickle.dumps({"W1": [1.0] * 99}))),
    "a folder as model": Case(DIGEST, ("run is no run directory",), model_folder),
    "metadata deep": Case(PREDICT, (NO_MODEL,), metadata("[" * 99_999)),
    "a giant layer": Case(EVALUATE, (NO_MODEL, "tensor W1"), layer_sizes(2, 10**10, 3)),
}

MODELS: dict[str, tuple[tuple[str, ...], Change]] = {
    "model is a header": ((NEITHER,), truncated("run/model.safetensors", 50)),
    "model is text": ((NEITHER,), model_file("hello, this is text\n" * 9)),
    "model with a long header": ((NEITHER,), header_size(2**60)),
    "model with a longest header": ((NEITHER,), header_size(2**64 - 1)),
    "model of others": ((NO_MODEL, "format 1"), header(lambda h: h.pop("__metadata__"))),
    "metadata no JSON": ((NO_MODEL,), metadata("{]")),
    "metadata a list": ((NO_MODEL,), metadata("[]")),
    "metadata long number": ((NO_MODEL,), metadata("1" * 5000)),
    "metadata of the future": ((NO_MODEL, "format 1"), described(lambda m: m.update(format=2))),
    "metadata without a key": ((NO_MODEL, "target"), described(lambda m: m.pop("target"))),
    "network a number": ((NO_MODEL, "network"), described(lambda m: m.update(network=3))),
    "giant layers": ((NO_MODEL, "tensors", "W3"), layer_sizes(2, 10**9, 10**9, 3)),
    "sizes that do not fit": ((NO_MODEL, "tensor W1", "[9, 2]"), layer_sizes(2, 9, 3)),
    "sizes of other data": ((NO_MODEL, "features"), layer_sizes(5, 8, 3)),
    "sizes of 0": ((NO_MODEL, "at least 1"), layer_sizes(2, 0, 3)),
    "sizes no integers": ((NO_MODEL, "whole numbers"), layer_sizes(2, 8.0, 3)),
    "sizes no list": (
        (NO_MODEL, "layer_sizes"),
        described(lambda m: m["network"].update(layer_sizes="2")),
    ),
    "unknown activation stored": (
        (NO_MODEL, "'gelu'"),
        described(lambda m: m["network"].update(activation="gelu")),
    ),
    "activation a list": (
        (NO_MODEL, "no text"),
        described(lambda m: m["network"].update(activation=[])),
    ),
    "loss of another task": (
        (NO_MODEL,),
        described(lambda m: m["network"].update(loss="half_squared_error")),
    ),
    "means not finite": (
        (NO_MODEL, "mean"),
        described(lambda m: m["features"].update(mean=[np.nan, 0])),
    ),
    "width beyond memory": (
        (NO_MODEL,),
        described(lambda m: m["features"]["columns"][0].update(width=10**12)),
    ),
    "classes that descend": (
        (NO_MODEL, "ascending"),
        described(lambda m: m["target"].update(classes=[2, 1, 0])),
    ),
    "shards without end": ((NO_MODEL, "shards"), described(lambda m: m.update(shards=10**15))),
    "shards no number": ((NO_MODEL, "shards"), described(lambda m: m.update(shards="8"))),
    "tensor renamed": ((NO_MODEL, "tensors", "W1"), header(renamed)),
    "tensor turned": ((NO_MODEL, "tensor W1", "[2, 8]", "[8, 2]"), tensor("W1", shape=[2, 8])),
    "tensor of integers": ((NO_MODEL, "tensor W1", "I32"), tensor("W1", dtype="I32")),
    "tensor of no type": ((NEITHER,), tensor("W1", dtype="X99")),
    "tensor too long": ((NEITHER,), tensor("W1", shape=[8, 2**61])),
    "tensors of float64": ((NO_MODEL, "F64", "F32"), float64),
    "parameters not finite": ((NO_MODEL, "tensor W1", "not finite"), not_finite),
}
"""What is said of model files that are refused; all commands load them by the same function."""


# Values that cannot be used: the same message wherever their rows are computed

OF_FEATURE = "data.parquet; replace it, or take the row or the column out"
OF_TARGET = "data.parquet; replace it or take the row out"

FLAWS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    (
        f"column 'height' has an infinite value in row 40 of {OF_FEATURE}",
        {"height": values((40, -np.inf))},
        (0, 2),
    ),
    (
        f"column 'pair' has an infinite value in row 1 of {OF_FEATURE}",
        {"pair": lists(1, [3, np.inf])},
        (0, 2, 5),
    ),
    (
        f"column 'width' has an infinite value in row 20 of {OF_FEATURE}",
        {"height": values((21, np.nan), (40, None)), "width": values((20, np.inf), (39, None))},
        (0, 2, 5),
    ),
    (
        f"target column 'kind' has a null in row 31 of {OF_TARGET}",
        {"kind": [*range(30), None, *range(9)]},
        (0, 2),
    ),
    (
        f"target column 'kind' has a NaN in row 6 of {OF_TARGET}",
        {"kind": values((6, np.nan), (39, np.inf))},
        (0, 2, 5),
    ),
    (
        f"target column 'kind' has an infinite value in row 39 of {OF_TARGET}",
        {"kind": values((39, np.inf), (40, np.nan))},
        (0, 2),
    ),
]
"""What is said, the columns, and the numbers of workers that say it."""

CASES |= {
    f"{said.partition(' of ')[0]}, {workers} workers": Case(
        train(workers=workers), (f"error: {said}\n",), data(**columns)
    )
    for said, columns, numbers in FLAWS
    for workers in numbers
}

REMEDY = "give --address HOST:PORT of the cluster's head, or auto on one of its nodes"


def ray_case(
    said: str, flags: str, workers: int = 2, change: Change = lambda folder: None, **given: str
) -> Case:
    """A training on Ray that ends before there is one, with this one line."""
    command = train(f"--backend ray {flags}", workers)
    return Case(command, (f"error: {said}\n",), change, given=given)


CASES |= {
    "a Ray address without a port": ray_case(
        f"the Ray address 'somewhere' is no HOST:PORT: {REMEDY}", "--address somewhere"
    ),
    "a Ray address with a port that is none": ray_case(
        f"the Ray address 'somewhere:70000' is no HOST:PORT: {REMEDY}", "--address somewhere:70000"
    ),
    "a Ray address in the environment": ray_case(
        f"the Ray address 'local' is no HOST:PORT: {REMEDY}", "", RAY_ADDRESS="local"
    ),
    "an address of Ray's client": ray_case(
        f"the Ray address ray://head:10001 is not that of a cluster to join: {REMEDY}; to run on a "
        "cluster from elsewhere, use `dist-dnn jobs submit`",
        "--address ray://head:10001",
    ),
    "Ray without workers": ray_case(
        "the ray backend needs workers: give --workers 1 or more", "", workers=0
    ),
    "workers of no CPUs": ray_case(
        "cpus_per_worker must be a number above 0, not 0.0", "--cpus-per-worker 0"
    ),
    "workers of hardly any CPU": ray_case(
        "cpus_per_worker must be a multiple of 0.0001, not 1e-05", "--cpus-per-worker 0.00001"
    ),
    "no time to start": ray_case(
        "start_timeout must be a number above 0, not -1.0", "--start-timeout -1"
    ),
    "Ray that is not installed": ray_case(
        "the ray backend needs Ray, which is not here: pip install '.[ray]'",
        "",
        change=text("sitecustomize.py", "import sys\nsys.modules['ray'] = None\n"),
        PYTHONPATH=".",
        PYTHONDONTWRITEBYTECODE="1",
    ),
    "a run that a job would lose": ray_case(
        "--out new is relative, and a job's working directory is removed with it: give an absolute "
        "path on storage that outlives the job, or a URI (s3://…)",
        "",
        RAY_JOB_CONFIG_JSON_ENV_VAR='{"metadata": {"job_submission_id": "raysubmit_x"}}',
    ),
}


def job_case(said: str, flags: str, change: Change = lambda folder: None, **given: str) -> Case:
    """A job that is not submitted, with this one line."""
    flags = flags if "--out" in flags else f"/d.parquet --target kind --out /run {flags}"
    command = f"jobs submit --address http://127.0.0.1:1 -- train {flags}"
    return Case(command, (f"error: {said}\n",), change, given=given)


CASES |= {
    "a job of nothing": Case("jobs submit", ("train DATA", "dist-dnn jobs submit --help")),
    "a job without the --": Case(
        "jobs submit train /d.parquet --target kind --out /run",
        ("unknown argument '--target'; what the job is to do stands behind --",),
    ),
    "a job that evaluates": Case(
        "jobs submit -- evaluate run data.parquet",
        ("a job does not 'evaluate', it trains: give `-- train DATA …` after other flags\n",),
    ),
    "a job with an unknown flag": job_case(
        "unknown argument '--hiden'; did you mean '--hidden'? (see dist-dnn train --help)",
        "--hiden 8",
    ),
    "a job with a bad value": Case(
        "jobs submit -- train /d --target kind --out /run --epochs -1", ("--epochs", "'-1'")
    ),
    "a job without a target": job_case(
        "no target: say with --target COLUMN which column to predict", "/d.parquet --out /run"
    ),
    "a job with data of this machine": job_case(
        "DATA data.parquet is relative, and a job has none of this machine's folders: give an "
        "absolute path on storage that every node sees, or a URI (s3://…)",
        "data.parquet --target kind --out /run",
    ),
    "a job that validates on data of this machine": job_case(
        "--validation data.parquet is relative, and a job has none of this machine's folders: give "
        "an absolute path on storage that every node sees, or a URI (s3://…)",
        "--validation data.parquet",
    ),
    "a job whose run would be lost": job_case(
        "--out new is relative, and a job's working directory is removed with it: give an absolute "
        "path on storage that outlives the job, or a URI (s3://…)",
        "/d.parquet --target kind --out new",
    ),
    "a job on another backend": job_case(
        "a job trains with --backend ray, not local: leave that out", "--backend local"
    ),
    "a job with another cluster": job_case(
        "a job joins the cluster that it runs on: give --address before the --, to submit it",
        "--address auto",
    ),
    "a job with a port for its gauges": job_case(
        "a job has no --metrics-port: leave that out; its cluster exports the same gauges, as "
        "ray_dist_dnn_…",
        "--metrics-port 70000",
    ),
    "a job without workers": job_case(
        "a job needs workers: give --workers 1 or more", "--workers 0"
    ),
    "a job with more workers than shards": job_case(
        "9 workers are more than the 8 shards of the experiment: use --workers 8, or train with "
        "--shards 9 (another experiment)",
        "--workers 9",
    ),
    "a job that keeps nothing": job_case("keep must be a whole number above 0, not 0", "--keep 0"),
    "a job with workers of no CPUs": job_case(
        "cpus_per_worker must be a number above 0, not 0.0", "--cpus-per-worker 0"
    ),
    "a job with a config that is not there": Case(
        "jobs submit -- train /d --target kind --out /run --config no.toml", ("no.toml",)
    ),
    "a job with a bad config": Case(
        "jobs submit -- train /d --target kind --out /run --config my.toml",
        ("my.toml", "epochs"),
        toml("epochs = -1\n"),
    ),
    "jobs without Ray": job_case(
        "jobs need Ray with its dashboard, which is not here: pip install '.[ray]'",
        "",
        text("sitecustomize.py", "import sys\nsys.modules['ray'] = None\n"),
        PYTHONPATH=".",
        PYTHONDONTWRITEBYTECODE="1",
    ),
    "jobs of what is no address": Case(
        "jobs list --address somewhere",
        ("'somewhere' is not the address of jobs: give --address http://HEAD:8265 of",),
    ),
    "jobs of Ray's client": Case("jobs list --address ray://head:10001", ("not the address",)),
    "an unknown command of jobs": Case("jobs start", ("'start'",)),
    "no job": Case("jobs status", ("ID", "dist-dnn jobs status --help")),
    "a job resumed by half a worker": Case(
        "jobs resume x --workers 0.5", ("whole number", "'0.5'")
    ),
    "a job fetched to nowhere": Case("jobs fetch x", ("--to",)),
    "a job fetched to what is there": Case(
        "jobs fetch x --to run", ("run exists: choose another --to, or move it away\n",)
    ),
}

ALONE = {name for name, case in CASES.items() if case.given} | {
    *("no command", "unknown command", "no target", "no target column, workers"),
    *("evaluate an unseen class, workers", "predict of infinity", "digest of nothing"),
    *("an unknown command of jobs", "a job that keeps nothing", "runs of no folder"),
}
"""Cases in processes of their own, as people start them; to call the others is quicker."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data.parquet`` and ``run``."""
    inside = tmp_path_factory.mktemp("example")
    pq.write_table(table(), inside / "data.parquet")
    flags = "--target kind --out run --workers 0 --epochs 1 --hidden 8"
    status, _, stderr = run(*shlex.split(f"train data.parquet {flags}"), cwd=inside)
    assert status == 0, stderr
    return inside


def content(inside: Path) -> dict[str, bytes | None]:
    """All files of a folder with their bytes, and folders and links."""
    return {
        str(path.relative_to(inside)): path.read_bytes() if path.is_file() else None
        for path in inside.rglob("*")
    }


def outcome_of(name: str, example: Path, inside: Path) -> Outcome:
    """What comes of a case, in this process or in one of its own."""
    case = CASES[name]
    copytree(example, inside)
    case.change(inside)
    before = content(inside)
    command = shlex.split(case.command)
    if name not in ALONE:
        ended = run(*command, cwd=inside)
    else:
        ended = run_alone(*command, cwd=inside, given=case.given)
    return Outcome(*ended, before, content(inside))


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, example: Path
) -> Iterator[dict[str, Future[Outcome]]]:
    """What comes of cases in processes of their own, which run ahead of the tests of them."""
    above = tmp_path_factory.mktemp("cases")
    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_a_mistake_is_one_line
    ]
    chosen = [name for name in chosen if name in ALONE]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            name: pool.submit(outcome_of, name, example, above / str(number))
            for number, name in enumerate(chosen)
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=case.mark) for name, case in CASES.items()]
)
def test_a_mistake_is_one_line(
    name: str, outcomes: dict[str, Future[Outcome]], example: Path, tmp_path: Path
) -> None:
    if name in ALONE:
        outcome = outcomes[name].result()
    else:
        outcome = outcome_of(name, example, tmp_path / "case")
    assert outcome.status == 2, outcome.stderr
    assert outcome.stdout == ""
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.endswith("\n")
    assert outcome.stderr[:-1].isprintable(), "it is more than one line"
    for words in CASES[name].said:
        assert words in outcome.stderr
    assert not re.search(r"\wError", outcome.stderr), "it shows an exception of Python's"
    assert outcome.after == outcome.before


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_is_refused(name: str, example: Path, tmp_path: Path) -> None:
    said, change = MODELS[name]
    copytree(example / "run", tmp_path / "run")
    change(tmp_path)
    with pytest.raises(InputError) as caught:
        Model.load(str(tmp_path / "run"))
    message = " ".join(str(caught.value).split())
    assert message.isprintable()
    assert message.startswith(str(tmp_path / "run" / "model.safetensors"))
    for words in said:
        assert words in message


@pytest.mark.parametrize("change", [layer_sizes(2, 10**9, 3), layer_sizes(2, 10**9, 10**9, 3)])
def test_what_a_model_file_claims_takes_no_memory(
    change: Change, example: Path, tmp_path: Path
) -> None:
    copytree(example / "run", tmp_path / "run")
    change(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="tensor"):
            Model.load(str(tmp_path / "run"))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_model_file_with_wrong_bytes(example: Path, tmp_path: Path) -> None:
    """Any change is an InputError of one line, or a model that is sound."""
    copytree(example / "run", tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    sound = path.read_bytes()
    source = random.Random(0)
    refusals: list[str] = []
    for _ in range(2000):
        damaged = bytearray(sound)
        for place in source.sample(range(len(sound)), source.choice([1, 1, 8])):
            damaged[place] = source.choice([source.randrange(256), *b'09[]{}",:-e'])
        path.write_bytes(damaged[: source.choice([None, None, None, -1, source.randrange(999)])])
        try:
            model = Model.load(str(tmp_path / "run"))
        except InputError as error:
            refusals.append(str(error))
        else:
            assert np.isfinite(model.parameters.vector).all()
            assert len(model.digest) == 64
    assert all(refusal.startswith(str(path)) for refusal in refusals)
    assert 500 < len(refusals) < 2000
