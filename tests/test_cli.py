"""The commands as people type them: what they print, what they write, how they end."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from commands import SECONDS, printed, run, run_alone, start
from safetensors.numpy import load_file
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from dist_dnn.data.holdout import Rows
from dist_dnn.nn.network import Network
from dist_dnn.nn.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "scripts" / "data" / "digits.parquet"
M = 1797
COMMANDS = (
    *("train", "describe", "evaluate", "predict", "shapes", "plan", "check", "digest"),
    *("jobs", "runs", "watch"),
)


def trained(out: Path, *arguments: object, data: Path = DIGITS, target: str = "digit") -> Path:
    """A run of a quick training; later flags override those given here."""
    quick = ("--workers", 0, "--progress", "none", "--hidden", "8", "--epochs", 1)
    assert printed("train", data, "--target", target, "--out", out, *quick, *arguments) == ""
    return out


def digest(out: Path) -> str:
    """SHA-256 of the little-endian bytes of W1, b1, W2, … in C order, as they are stored."""
    tensors = load_file(out / "model.safetensors")
    sha = hashlib.sha256()
    for layer in range(1, len(tensors) // 2 + 1):
        for name in ("W", "b"):
            sha.update(np.ascontiguousarray(tensors[f"{name}{layer}"], "<f4").tobytes())
    return sha.hexdigest()


def scores(out: Path, data: Path, *arguments: object) -> dict[str, Any]:
    """The one JSON object that evaluate prints."""
    stdout = printed("evaluate", out, data, *arguments)
    assert stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(stdout)
    return found


def predictions(out: Path, data: Path, file: Path, *arguments: object) -> pa.Table:
    assert printed("predict", out, data, "--out", file, *arguments) == ""
    return pq.read_table(file)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Digits:
    """A training on the digits by two workers, with rows held out, and what it said.

    Like what else is of processes, it is in one of its own.
    """

    EPOCHS = 3
    FLAGS = ("--hidden", "32,16", "--learning-rate", 0.01, "--epochs", 3, "--validation", 0.1)

    def __init__(self, folder: Path) -> None:
        self.out = folder / "runs" / "digits"
        self.status, self.stdout, self.stderr = run_alone(
            *("train", DIGITS, "--target", "digit", "--out", self.out, "--workers", 2),
            *self.FLAGS,
        )
        self.kept = Rows.kept(M, 0, 0.1)

    def file(self, name: str) -> str:
        return (self.out / name).read_text()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    return Digits(tmp_path_factory.mktemp("digits"))


# train


def test_train_says_a_line_an_epoch_in_a_pipe(digits: Digits) -> None:
    assert (digits.status, digits.stdout) == (0, "")
    *epochs, last, hint = digits.stderr.splitlines()
    number = r"[\d,]+(\.\d+)?"
    for epoch, line in enumerate(epochs, 1):
        assert re.fullmatch(
            f"epoch {epoch}/{digits.EPOCHS}  train loss {number}  validation loss {number}  "
            f"validation accuracy {number}  {number} examples/s",
            line,
        )
    assert len(epochs) == digits.EPOCHS
    assert last == f"digest {digest(digits.out)}"
    assert hint == f"model in {digits.out}; next: dist-dnn evaluate {digits.out} DATA"


def test_files_of_a_run(digits: Digits) -> None:
    assert sorted(os.listdir(digits.out)) == [
        "checkpoints",
        "environment.json",
        "features.json",
        "hyperparameters.toml",
        "metrics.jsonl",
        "model.safetensors",
        "status.json",
    ]


def test_metrics(digits: Digits) -> None:
    metrics = lines(digits.out / "metrics.jsonl")
    batches = -(-digits.kept.count // 256)
    assert [each["epoch"] for each in metrics] == [1, 2, 3]
    assert [each["step"] for each in metrics] == [batches, 2 * batches, 3 * batches]
    for each in metrics:
        assert list(each) == [
            *("epoch", "step", "train_loss", "validation_loss", "validation_accuracy"),
            *("examples_per_second", "seconds", "digest"),
        ]
        assert each["seconds"] > 0
        assert each["examples_per_second"] * each["seconds"] >= digits.kept.count
    assert metrics[2]["train_loss"] < metrics[1]["train_loss"] < metrics[0]["train_loss"]
    assert len({each["digest"] for each in metrics}) == 3
    assert metrics[-1]["digest"] == digest(digits.out)


def test_status(digits: Digits) -> None:
    status = json.loads(digits.file("status.json"))
    assert status.keys() == {
        *("state", "epoch", "step", "started", "updated", "ended", "error"),
        *("backend", "workers", "allow_mixed_cpus", "max_failures", "step_timeout", "job"),
        *("checkpoint_every", "in_epoch", "m", "process", "profile"),
    }
    assert (status["state"], status["epoch"], status["error"]) == ("completed", 3, None)
    assert status["step"] == lines(digits.out / "metrics.jsonl")[-1]["step"]
    assert status["started"] < status["updated"] == status["ended"]
    assert (status["backend"], status["workers"], status["job"]) == ("local", 2, None)
    assert (status["checkpoint_every"], status["m"]) == ("60s", digits.kept.count)
    assert status["in_epoch"] == {"rows": 0, "loss": None}


def test_features(digits: Digits) -> None:
    described = json.loads(digits.file("features.json"))
    table = pq.read_table(DIGITS).take(digits.kept.numbers(0, digits.kept.count))
    names = [name for name in table.column_names if name != "digit"]
    X = np.stack([table[name].to_numpy() for name in names]).astype(np.float64)
    features, target = described["features"], described["target"]
    assert features["columns"] == [{"name": name, "width": 1, "kind": "integer"} for name in names]
    np.testing.assert_allclose(features["mean"], X.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(features["deviation"], X.std(axis=1), rtol=1e-12)
    assert (target["name"], target["task"]) == ("digit", "multiclass")
    assert target["classes"] == list(range(10))


def test_environment(digits: Digits) -> None:
    environment = json.loads(digits.file("environment.json"))
    assert environment.keys() >= {"platform", "machine", "python", "numpy", "pyarrow", "dist_dnn"}
    assert environment["numpy"] == np.__version__
    assert all(library["threads"] == 1 for library in environment["blas"])


def test_tensors(digits: Digits) -> None:
    tensors = load_file(digits.out / "model.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "W1": (32, 64),
        "b1": (32, 1),
        "W2": (16, 32),
        "b2": (16, 1),
        "W3": (10, 16),
        "b3": (10, 1),
    }
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def test_other_workers_write_the_same(digits: Digits, tmp_path: Path) -> None:
    out = trained(tmp_path / "run", *digits.FLAGS, "--workers", 3)
    for name in ("hyperparameters.toml", "features.json", "model.safetensors"):
        assert (out / name).read_bytes() == (digits.out / name).read_bytes()
    for one, other in zip(
        lines(out / "metrics.jsonl"), lines(digits.out / "metrics.jsonl"), strict=True
    ):
        for name in one.keys() - {"seconds", "examples_per_second"}:
            assert one[name] == other[name]


@pytest.mark.parametrize("target", [(), ("--target", "digit")])
def test_a_config_reproduces_the_digest(
    target: tuple[str, ...], digits: Digits, tmp_path: Path
) -> None:
    config = digits.out / "hyperparameters.toml"
    flags = ("--config", config, "--workers", 0, "--progress", "none")
    assert printed("train", DIGITS, *target, "--out", tmp_path / "again", *flags) == ""
    assert digest(tmp_path / "again") == digest(digits.out)
    assert (tmp_path / "again" / "hyperparameters.toml").read_text() == config.read_text()


def test_a_flag_overrides_the_config(digits: Digits, tmp_path: Path) -> None:
    config = digits.out / "hyperparameters.toml"
    out = trained(tmp_path / "run", "--config", config, "--hidden", "none", "--epochs", 1)
    assert set(load_file(out / "model.safetensors")) == {"W1", "b1"}
    assert "validation_loss" in lines(out / "metrics.jsonl")[0]


def test_no_epochs_store_the_initial_model(tmp_path: Path) -> None:
    out = trained(tmp_path / "run", "--epochs", 0, "--hidden", "32,16", "--seed", 7)
    initial = Network((64, 32, 16, 10)).initialize(7)
    tensors = load_file(out / "model.safetensors")
    for layer in (1, 2, 3):
        assert np.array_equal(tensors[f"W{layer}"], initial.W[layer])
        assert not tensors[f"b{layer}"].any()
    assert lines(out / "metrics.jsonl") == []
    status = json.loads((out / "status.json").read_text())
    assert (status["state"], status["epoch"], status["step"]) == ("completed", 0, 0)


def test_a_single_layer_in_full_batches(tmp_path: Path) -> None:
    flags = ("--hidden", "none", "--batch-size", "full", "--epochs", 4, "--optimizer", "sgd")
    out = trained(tmp_path / "run", *flags, "--learning-rate", 0.5)
    tensors = load_file(out / "model.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "W1": (10, 64),
        "b1": (10, 1),
    }
    metrics = lines(out / "metrics.jsonl")
    assert [each["step"] for each in metrics] == [1, 2, 3, 4]
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]


def test_every_format_gives_the_same_digest(tmp_path: Path) -> None:
    table = pq.read_table(DIGITS).slice(0, 300)
    pq.write_table(table, tmp_path / "x.parquet")
    feather.write_feather(table, tmp_path / "x.feather")
    csv.write_csv(table, tmp_path / "x.csv")
    (tmp_path / "folder").mkdir()
    for name, part in (("b", table.slice(100)), ("a", table.slice(0, 100))):
        pq.write_table(part, tmp_path / "folder" / f"{name}.parquet", row_group_size=70)
    digests = {
        digest(trained(tmp_path / f"run of {data}", "--workers", workers, data=tmp_path / data))
        for data, workers in (("x.parquet", 0), ("x.feather", 0), ("x.csv", 2), ("folder", 2))
    }
    assert len(digests) == 1
    reordered = trained(tmp_path / "reordered", "--features", "pixel_3_3,pixel_2_2")
    described = json.loads((reordered / "features.json").read_text())
    names = [column["name"] for column in described["features"]["columns"]]
    assert names == ["pixel_3_3", "pixel_2_2"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_and_schedule(optimizer: str, tmp_path: Path) -> None:
    own = {
        "momentum": ("--momentum", 0.8),
        "nesterov": ("--momentum", 0.8),
        "rmsprop": ("--decay-rate", 0.8, "--epsilon", 1e-6),
        "adam": ("--beta1", 0.8, "--beta2", 0.99),
        "adamw": ("--weight-decay", 0.1),
    }
    schedules = {
        "sgd": ("--schedule", "step", "--schedule-every", 1, "--schedule-factor", 0.5),
        "adam": ("--schedule", "cosine", "--warmup-steps", 5),
        "rmsprop": ("--schedule", "cosine"),
        "adamw": ("--warmup-steps", 5, "--schedule", "step"),
    }
    rate = 0.05 if optimizer in ("sgd", "momentum", "nesterov") else 0.005
    out = trained(
        tmp_path / "run",
        *("--optimizer", optimizer, "--learning-rate", rate, "--epochs", 2, "--l2", 0.001),
        *own.get(optimizer, ()),
        *schedules.get(optimizer, ("--clip-norm", 10)),
    )
    first, second = lines(out / "metrics.jsonl")
    assert second["train_loss"] < first["train_loss"]
    toml = (out / "hyperparameters.toml").read_text()
    assert f'optimizer = "{optimizer}"' in toml


def test_a_file_to_validate_on(tmp_path: Path) -> None:
    table = pq.read_table(DIGITS)
    pq.write_table(table.slice(0, 1000), tmp_path / "training.parquet")
    pq.write_table(table.slice(1000), tmp_path / "validation.parquet")
    data, other = tmp_path / "training.parquet", tmp_path / "validation.parquet"
    out = trained(tmp_path / "run", "--validation", other, "--workers", 2, data=data)
    metrics = lines(out / "metrics.jsonl")[-1]
    assert metrics["step"] == 4
    found = scores(out, other)
    assert found["m"] == M - 1000
    assert metrics["validation_loss"] == found["loss"]
    assert metrics["validation_accuracy"] == found["accuracy"]
    assert digest(out) == digest(trained(tmp_path / "alone", data=data))


def test_other_kinds_of_progress(tmp_path: Path) -> None:
    said = {}
    for progress in ("none", "lines", "bar"):
        status, stdout, said[progress] = run(
            *("train", DIGITS, "--target", "digit", "--out", tmp_path / progress),
            *("--workers", 0, "--hidden", 8, "--epochs", 2, "--progress", progress),
        )
        assert (status, stdout) == (0, "")
    assert said["none"] == ""
    assert said["lines"].count("\n") == 4
    assert "epoch 1/2:" in said["bar"]
    assert re.search(r"epoch 2/2  train loss .*\ndigest", said["bar"])


# evaluate and predict


def test_classes(digits: Digits, tmp_path: Path) -> None:
    truth = pq.read_table(DIGITS, columns=["digit"])["digit"].to_numpy()
    found = scores(digits.out, DIGITS)
    table = predictions(digits.out, DIGITS, tmp_path / "predictions.parquet")
    assert table.column_names == ["prediction", *(f"probability_{digit}" for digit in range(10))]
    assert table.schema.field("prediction").type == pq.read_schema(DIGITS).field("digit").type
    predicted = table["prediction"].to_numpy()
    A = np.stack([table[f"probability_{digit}"].to_numpy() for digit in range(10)])
    np.testing.assert_allclose(A.sum(axis=0), 1, rtol=1e-5)
    assert np.array_equal(predicted, A.argmax(axis=0))
    assert found.keys() == {
        *("loss", "m", "accuracy", "log_loss", "auc", "precision", "recall", "f1"),
        "confusion_matrix",
    }
    assert found["m"] == M
    area = roc_auc_score(truth, A.T, multi_class="ovr", average="macro")
    assert found["auc"] == pytest.approx(area, rel=1e-12)
    assert found["confusion_matrix"] == confusion_matrix(truth, predicted).tolist()
    f1 = f1_score(truth, predicted, average=None)
    assert found["f1"] == {str(digit): pytest.approx(f1[digit]) for digit in range(10)}
    assert found["accuracy"] == (predicted == truth).mean() > 0.5
    loss = -np.log(A[truth, np.arange(M)].astype(np.float64)).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert scores(digits.out, DIGITS, "--workers", 2) == found
    predictions(digits.out, DIGITS, tmp_path / "by_two.parquet", "--workers", 2)
    by_two, by_none = (tmp_path / f"{name}.parquet" for name in ("by_two", "predictions"))
    assert by_two.read_bytes() == by_none.read_bytes()


def test_predictions_stand_in_the_order_of_the_rows(digits: Digits, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(M)
    pq.write_table(pq.read_table(DIGITS).take(order).drop_columns("digit"), tmp_path / "x.parquet")
    one = predictions(digits.out, DIGITS, tmp_path / "one.parquet")
    other = predictions(digits.out, tmp_path / "x.parquet", tmp_path / "other.parquet")
    assert other["prediction"].to_pylist() == one["prediction"].take(order).to_pylist()
    assert sorted(os.listdir(tmp_path)) == ["one.parquet", "other.parquet", "x.parquet"]


def example(folder: Path, **columns: Any) -> Path:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 300))
    given = {"a": a, "b": b, "c": np.full(300, 7), "price": 200 + 30 * (a - b), "sold": a > b}
    pq.write_table(pa.table(given | columns), folder / "x.parquet")
    return folder / "x.parquet"


TWO = ("--hidden", "none", "--epochs", 20, "--learning-rate", 0.05, "--features", "a,b,c")


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ([False, True], ["false", "true"]),
        (["no", "yes"], ["no", "yes"]),
        ([3, 5], ["3", "5"]),
    ],
)
def test_two_classes(classes: list[Any], names: list[str], tmp_path: Path) -> None:
    sold: list[Any] = pq.read_table(example(tmp_path))["sold"].to_pylist()
    data = example(tmp_path, sold=[classes[each] for each in sold])
    out = trained(tmp_path / "run", *TWO, data=data, target="sold")
    assert load_file(out / "model.safetensors")["W1"].shape == (1, 3)
    table = predictions(out, data, tmp_path / "y.parquet")
    assert table.column_names == ["prediction", *(f"probability_{name}" for name in names)]
    assert table.schema.field("prediction").type == pq.read_schema(data).field("sold").type
    lower, upper = (table[f"probability_{name}"].to_numpy() for name in names)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-6)
    assert table["prediction"].to_pylist() == [classes[each] for each in (upper > 0.5).tolist()]
    found = scores(out, data)
    area = roc_auc_score(sold, upper)
    assert found["auc"] == pytest.approx(area, rel=1e-12)
    assert list(found["precision"]) == list(found["recall"]) == names
    assert found["accuracy"] == ((upper > 0.5) == sold).mean() > 0.95
    loss = -np.log(np.where(sold, upper, lower).astype(np.float64)).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_regression(dtype: type[np.generic], tmp_path: Path) -> None:
    price = pq.read_table(example(tmp_path))["price"].to_numpy().astype(dtype)
    data = example(tmp_path, price=price)
    task = ("--task", "regression", "--validation", data)
    out = trained(tmp_path / "run", *TWO, *task, data=data, target="price")
    table = predictions(out, data, tmp_path / "y.parquet")
    assert table.column_names == ["prediction"]
    expected_type = pa.float32() if dtype == np.float32 else pa.float64()
    assert table.schema.field("prediction").type == expected_type
    errors = table["prediction"].to_numpy() - price.astype(np.float64)
    rmse = np.sqrt((errors**2).mean())
    found = scores(out, data)
    assert found.keys() == {"loss", "m", "rmse", "mae", "r2"}
    assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-12)
    assert found["r2"] == pytest.approx(1 - (errors**2).sum() / (300 * price.var()), rel=1e-6)
    assert found["m"] == 300
    assert found["rmse"] == pytest.approx(rmse, rel=1e-4)
    assert found["rmse"] < 20 < price.std()
    deviation = price.astype(np.float64).std()
    assert found["loss"] == pytest.approx(0.5 * (rmse / deviation) ** 2, rel=1e-4)
    metrics = lines(out / "metrics.jsonl")[-1]
    for score in ("loss", "rmse", "mae", "r2"):
        assert metrics[f"validation_{score}"] == found[score]
    assert "validation_accuracy" not in metrics
    target = json.loads((out / "features.json").read_text())["target"]
    assert target["mean"] == pytest.approx(price.astype(np.float64).mean())
    assert target["deviation"] == pytest.approx(deviation)


def test_columns_are_carried_along(tmp_path: Path) -> None:
    given = pq.read_table(example(tmp_path))
    out = trained(tmp_path / "run", *TWO, data=tmp_path / "x.parquet", target="sold")
    plain = predictions(out, tmp_path / "x.parquet", tmp_path / "plain.parquet")
    rows = [
        f"{number},{'' if number == 7 else 'n'},{a!r},{b!r},7"
        for number, (a, b) in enumerate(
            zip(given["a"].to_pylist(), given["b"].to_pylist(), strict=True)
        )
    ]
    (tmp_path / "x.csv").write_text("\n".join(["id,name,a,b,c", *rows]))
    carry = ("--columns", "name,id,c", "--workers", 2)
    found = predictions(out, tmp_path / "x.csv", tmp_path / "y.parquet", *carry)
    assert found.column_names == ["name", "id", "c", *plain.column_names]
    assert found["id"].to_pylist() == list(range(300))
    assert found["name"].to_pylist() == [*["n"] * 7, "", *["n"] * 292]
    assert found.drop_columns(["name", "id", "c"]).equals(plain)


def test_a_prediction_takes_the_place_of_an_older_one(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "y.parquet").write_text("older")
    assert predictions(digits.out, DIGITS, tmp_path / "y.parquet").num_rows == M


# shapes, check, digest


def test_digest_is_the_hash_of_the_tensors(digits: Digits) -> None:
    stdout = printed("digest", digits.out)
    assert re.fullmatch(r"[0-9a-f]{64}\n", stdout)
    assert stdout.strip() == digest(digits.out)


def test_shapes() -> None:
    rows = printed("shapes", 784, 512, 256, 10, "--batch-size", 512, "--workers", 4)
    columns = [re.split(r"\s{2,}", row) for row in rows.splitlines()[:5]]
    assert columns[1] == ["0", "(784, 512)", "A[0] = X"]
    assert columns[2] == ["1", "(512, 784)", "(512, 1)", "(512, 512)", "401,920"]
    assert columns[3] == ["2", "(256, 512)", "(256, 1)", "(256, 512)", "131,328"]
    assert columns[4] == ["3", "(10, 256)", "(10, 1)", "(10, 512)", "2,570"]
    parameters = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert f"3 layers, {parameters:,} parameters" in rows
    assert f"{4 * parameters:,} bytes" in rows
    assert "4 workers" in rows
    assert "(512, m)" in printed("shapes", 784, 512, 10)


def test_check() -> None:
    stdout = printed("check", "--workers", 2)
    assert stdout.startswith("BLAS: ")
    assert len(re.findall(r"^(?:\w+)  +(?:\w+)  +\d\.\de-\d\d$", stdout, re.MULTILINE)) == 15
    assert stdout.endswith("local, 2 workers: 3 steps give the bits of serial ones\n")


# help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_imports_little(command: str) -> None:
    code = (
        "import sys\n"
        "from dist_dnn.__main__ import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "print(sorted({'pyarrow', 'safetensors', 'tqdm', 'workers'} & set(sys.modules)))\n"
    )
    arguments = [sys.executable, "-c", code, command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    *help_lines, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert re.match(r"examples?:$", help_lines[-1]) is None
    assert any(re.match(r"examples?:$", line) for line in help_lines)
    assert any(line.startswith(f"  dist-dnn {command} ") for line in help_lines)


def test_help_of_all_commands() -> None:
    stdout = printed("--help")
    for command in COMMANDS:
        assert re.search(rf"^    {command} +\w", stdout, re.MULTILINE)
    assert printed("--version").startswith("dist_dnn ")


def test_help_where_only_ascii_can_be_written() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dist_dnn", "train", "--help"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--learning-rate" in done.stdout


def test_defaults_are_in_the_help() -> None:
    stdout = " ".join(printed("train", "--help").split())
    for said in ("(default 256,128)", "(default adam)", "(default 0.001)", "(default 8)"):
        assert said in stdout


# other ways to start, and other ends


def test_the_script_is_the_command(digits: Digits, tmp_path: Path) -> None:
    arguments = [DIGITS, "--out", tmp_path / "run", "--workers", 0, "--progress", "none"]
    config = ["--config", digits.out / "hyperparameters.toml"]
    command = [sys.executable, ROOT / "scripts" / "train.py", *arguments, *config]
    subprocess.run([*map(str, command)], check=True, cwd=tmp_path)
    assert digest(tmp_path / "run") == digest(digits.out)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_signals(number: signal.Signals, said: str, workers: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = ("--workers", workers, "--hidden", 8, "--epochs", 10**6)
    with start("train", DIGITS, "--target", "digit", "--out", out, *flags, cwd=ROOT) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/1000000")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 128 + number
    assert stdout == ""
    *epochs, last = stderr.splitlines()
    assert all(line.startswith("epoch ") for line in epochs)
    status = json.loads((out / "status.json").read_text())
    assert (status["state"], status["error"]) == ("stopped", said)
    assert last == (
        f"error: {said}; a checkpoint of step {status['step']} is in {out}: go on with "
        f"`dist-dnn train DATA --out {out} --resume`"
    )
    assert status["ended"] is not None
    metrics = lines(out / "metrics.jsonl")
    assert len(metrics) == len(epochs) + 1 == status["epoch"]
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    assert digest(out) == metrics[-1]["digest"]
    checkpoints = sorted(os.listdir(out / "checkpoints"))
    assert checkpoints[-1] == f"step-{status['step']:010}.safetensors"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_a_signal_while_it_starts(tmp_path: Path) -> None:
    """As soon as a signal is handled, which is before numpy is imported."""
    for _ in range(5):
        command = ("train", DIGITS, "--target", "digit", "--out", tmp_path / "run")
        with start(*command, "--workers", 2, "--epochs", 10**6, cwd=ROOT) as process:
            while not handles_sigterm(process.pid):
                time.sleep(0.001)
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stderr) == (128 + signal.SIGTERM, "error: terminated\n")
        assert os.listdir(tmp_path) == []


def handles_sigterm(process: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    handled = re.search(r"SigCgt:\s*(\w+)", status)
    return handled is not None and bool(int(handled[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "flags",
    [
        ("--optimizer", "sgd", "--learning-rate", 1e30, "--epochs", 5),
        ("--optimizer", "adamw", "--learning-rate", 1e38, "--weight-decay", 10),
        ("--optimizer", "sgd", "--learning-rate", 1e30, "--validation", 0.1),
    ],
)
def test_divergence_is_a_failure(flags: tuple[object, ...], workers: int, tmp_path: Path) -> None:
    """The second way the only step makes the parameters infinite: its loss was still right."""
    status, stdout, stderr = run(
        *("train", DIGITS, "--target", "digit", "--out", tmp_path / "run", "--workers", workers),
        *("--progress", "none", "--batch-size", "full", "--epochs", 1, *flags),
    )
    assert (status, stdout) == (1, "")
    assert re.fullmatch(r"error: the training diverged: .*--learning-rate.*\n", stderr)
    state = json.loads((tmp_path / "run" / "status.json").read_text())
    assert state["state"] == "failed"
    assert state["error"] in stderr


def test_output_that_cannot_be_written(digits: Digits) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    command = [sys.executable, "-m", "dist_dnn", "digest", str(digits.out)]
    with full.open("w") as sink:
        done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*No space left on device\n", done.stderr)


def test_a_reader_that_has_gone(digits: Digits) -> None:
    process = start("digest", digits.out, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(SECONDS) == 1


@pytest.mark.parametrize("kind", ["module", "package"])
def test_another_package_called_workers(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("workers.py" if kind == "module" else "workers/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    command = ("train", DIGITS, "--target", "x", "--out", "run")
    status, stdout, stderr = run_alone(*command, cwd=tmp_path)
    assert (status, stdout) == (1, "")
    assert re.fullmatch(r"error: the package 'workers' that Python finds is .*rename.*\n", stderr)
    assert str(tmp_path) in stderr


def test_predictions_come_in_few_row_groups(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run("train", DIGITS, "--target", "digit", "--out", out, "--workers", 0, "--epochs", 0)
    status, _, _ = run("predict", out, DIGITS, "--out", tmp_path / "new.parquet")
    assert status == 0
    assert pq.ParquetFile(tmp_path / "new.parquet").num_row_groups == 1
