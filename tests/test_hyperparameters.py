"""Hyperparameters: what each may be, their TOML, and flags that override a file's."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from dist_dnn.errors import InputError
from dist_dnn.front.commands import read_experiment
from dist_dnn.hyperparameters import (
    MOST_SHARDS,
    OPTIMIZER_SETTINGS,
    Hyperparameters,
    read_toml,
    suggestion,
    what_must_be,
)
from dist_dnn.nn.activations import ACTIVATIONS
from dist_dnn.nn.network import INITIALIZATIONS
from dist_dnn.nn.optimizers import OPTIMIZERS

NO_NUMBERS = ["1", True, [1], math.nan, math.inf, -math.inf, 3.5e38, 10**400]
NO_COUNTS = ["1", True, 1.0, 0.5, [1], math.nan]
GOOD: dict[str, list[Any]] = {
    "features": [("a",), ("b", "a"), ["a", "b"]],
    "exclude": [("a",), ["b"]],
    "categorical": [("a", "b")],
    "passthrough": [("a",)],
    "max_categories": [1, 10**6],
    "min_frequency": [1e-9, 0.001, 0.999],
    "task": ["auto", "binary", "multiclass", "regression"],
    "weight": ["copies"],
    "class_weight": ["balanced", {"a": 0.5, "b": 0.0}, {"": 3e38}],
    "validation": [0.5, 1e-9, 0.999, "rows.parquet", "s3://bucket/rows"],
    "validation_column": ["held"],
    "stratify": [False],
    "test": ["rows.parquet", "s3://bucket/rows"],
    "hidden": [(), (1,), (256, 128), [64], [], "none"],
    "activation": list(ACTIVATIONS),
    "initialization": list(INITIALIZATIONS),
    "optimizer": list(OPTIMIZERS),
    "learning_rate": [1e-30, 1, 3e38],
    "l2": [0, 0.0, 0.5],
    "clip_norm": [1, 1e-3],
    "warmup_steps": [0, 10],
    "schedule_epochs": [1, 10**6],
    "on_divergence": ["stop", "rollback"],
    "batch_size": [1, 10**9, "auto", "full"],
    "epochs": [0, 1, 10**6],
    "seed": [0, 2**63 - 1],
    "shards": [1, MOST_SHARDS],
}
BAD: dict[str, list[Any]] = {
    "features": [(), [], "a", ("a", ""), ("a", 1), {"a": 1}],
    "exclude": [(), "a", ("a", 1)],
    "categorical": [[], ("",)],
    "passthrough": ["", {"a"}],
    "max_categories": [0, -1, *NO_COUNTS, None],
    "min_frequency": [0, 1, -0.1, 1.5, *NO_NUMBERS, None],
    "task": ["rank", "", 1, ["auto"], None],
    "weight": ["", 1, ["copies"]],
    "class_weight": [
        "",
        "balance",
        1.0,
        {},
        ["a"],
        {"a": -1},
        {1: 1.0},
        *({"a": x} for x in NO_NUMBERS),
    ],
    "validation": [0, 1, 0.0, 1.0, 1.5, -0.1, math.nan, True, "", [0.1]],
    "validation_column": ["", 1, ["held"]],
    "stratify": [1, "true", None],
    "test": ["", 0.1, True, ["rows.parquet"]],
    "hidden": [(0,), (8, -3), (8.0,), (True,), ("a",), 8, "8", "", {}, None],
    "activation": ["gelu", "", 1, ["relu"], None],
    "initialization": ["zero", None],
    "optimizer": ["adamax", "Adam", None],
    "learning_rate": [0, 0.0, -0.1, *NO_NUMBERS, None],
    "momentum": [1, 1.0, -0.1, *NO_NUMBERS],
    "decay_rate": [1, -0.1, *NO_NUMBERS],
    "beta1": [1, -0.1, *NO_NUMBERS],
    "beta2": [1, -0.1, *NO_NUMBERS],
    "epsilon": [0, -1e-8, *NO_NUMBERS],
    "weight_decay": [-0.1, *NO_NUMBERS],
    "l2": [-0.1, *NO_NUMBERS, None],
    "clip_norm": [0, -1, *NO_NUMBERS],
    "schedule": ["linear", 1, None],
    "schedule_every": [0, -1, *NO_COUNTS],
    "schedule_factor": [0, -1, *NO_NUMBERS],
    "warmup_steps": [-1, *NO_COUNTS, None],
    "schedule_epochs": [0, -1, *NO_COUNTS],
    "on_divergence": ["", "go on", 1, None],
    "batch_size": [0, -1, "half", "", *NO_COUNTS, None],
    "epochs": [-1, *NO_COUNTS, None],
    "seed": [-1, 2**63, *NO_COUNTS, None],
    "shards": [0, -1, MOST_SHARDS + 1, 10**15, *NO_COUNTS, None],
}


def pairs(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={str(value)[:30]}")
        for name, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("name", "value"), pairs(GOOD))
def test_good_values(name: str, value: Any) -> None:
    hyperparameters = Hyperparameters(**{name: value})
    stored = () if value == "none" else tuple(value) if isinstance(value, list) else value
    assert getattr(hyperparameters, name) == stored
    assert type(getattr(hyperparameters, name)) is not list


@pytest.mark.parametrize(("name", "value"), pairs(BAD))
def test_bad_values(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} must be .*, not ") as caught:
        Hyperparameters(**{name: value})
    assert len(str(caught.value)) < 200


def test_every_hyperparameter_is_in_the_table() -> None:
    assert list(BAD) == list(Hyperparameters.__dataclass_fields__)
    for name in BAD:
        assert what_must_be(name, object()) is not None


def test_whole_numbers_become_floats_where_floats_are_meant() -> None:
    hyperparameters = Hyperparameters(learning_rate=1, l2=2, optimizer="momentum", momentum=0)
    given = hyperparameters.to_mapping()
    assert [type(given[name]) for name in ("learning_rate", "l2", "momentum")] == [float] * 3
    assert hyperparameters == Hyperparameters(
        learning_rate=1.0, l2=2.0, optimizer="momentum", momentum=0.0
    )


def test_they_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Hyperparameters().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("name", "users"), OPTIMIZER_SETTINGS.items())
def test_settings_belong_to_optimizers(optimizer: str, name: str, users: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"optimizer": optimizer, name: 0.5}
    if optimizer in users:
        hyperparameters = Hyperparameters(**values)
        assert hyperparameters.optimizer_arguments() == {name: 0.5}
    else:
        with pytest.raises(InputError, match=f"^{name} is a setting of .* not of {optimizer}: "):
            Hyperparameters(**values)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("features", "exclude"),
        ("exclude", "categorical"),
        ("exclude", "passthrough"),
        ("categorical", "passthrough"),
    ],
)
def test_no_column_is_two_things(one: str, other: str) -> None:
    Hyperparameters(**{one: ("a", "b"), other: ("c",)})
    with pytest.raises(InputError, match=f"^{one} and {other} have 'b' in common: take it out"):
        Hyperparameters(**{one: ("a", "b"), other: ("c", "b")})


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_settings_belong_to_schedules(schedule: str) -> None:
    values: dict[str, Any]
    for values in ({"schedule_every": 2}, {"schedule_factor": 0.1}):
        Hyperparameters(schedule="step", **values)
        with pytest.raises(InputError, match=f"of schedule step, not of {schedule}: "):
            Hyperparameters(schedule=schedule, **values)


def test_arguments_of_the_schedule() -> None:
    hyperparameters = Hyperparameters(schedule="step", schedule_every=3, epochs=7, warmup_steps=2)
    assert hyperparameters.schedule_arguments() == {
        "learning_rate": 0.001,
        "epochs": 7,
        "warmup_steps": 2,
        "every": 3,
    }


@pytest.mark.parametrize(
    ("batch_size", "m", "expected"),
    [("auto", 1000, 256), ("auto", 256, 256), ("auto", 7, 7), ("full", 1000, 1000), (9, 9, 9)],
)
def test_batch_size(batch_size: int | str, m: int, expected: int) -> None:
    assert Hyperparameters(batch_size=batch_size).batch_size_of(m) == expected


def test_batch_size_above_m() -> None:
    with pytest.raises(InputError, match=r"batch_size 10 is above the 9 training rows: .*'full'"):
        Hyperparameters(batch_size=10).batch_size_of(9)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lerning_rate", "'learning_rate'"),
        ("batchsize", "'batch_size'"),
        ("targte", "'target'"),
        ("workers", None),
        ("", None),
    ],
)
def test_unknown_names(name: str, meant: str | None) -> None:
    with pytest.raises(InputError, match=f"^my.toml: unknown key '{name}'; ") as caught:
        Hyperparameters.from_mapping({name: 1}, "my.toml")
    told = str(caught.value)
    assert told.endswith(f"did you mean {meant}?") if meant else "; known are features, " in told


def test_suggestions() -> None:
    assert suggestion("--hiden", ["--hidden", "--seed"]) == "; did you mean '--hidden'?"
    assert suggestion("--lr", ["--l2", "--seed"]) == ""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"validation": 0.1, "validation_column": "held"}, "exclude each other"),
        ({"stratify": True}, "stratify needs a validation that is a fraction"),
        ({"stratify": True, "validation": "rows.csv"}, "stratify needs a validation that is"),
        (
            {"features": ["a", "held"], "validation_column": "held"},
            "validation_column 'held' is in features, but it is no feature",
        ),
        ({"exclude": ["held"], "validation_column": "held"}, "column 'held' is in exclude"),
        (
            {"features": ["a", "w"], "weight": "w"},
            "weight 'w' is in features, but it is no feature",
        ),
        ({"exclude": ["w"], "weight": "w"}, "weight 'w' is in exclude"),
        ({"validation_column": "w", "weight": "w"}, "weight and validation_column are both 'w'"),
    ],
)
def test_hyperparameters_that_do_not_go_together(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Hyperparameters(**values)


# TOML


def texts() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def positive() -> st.SearchStrategy[float]:
    return st.floats(1e-38, 3e38)


def below_one() -> st.SearchStrategy[float]:
    return st.floats(0, 1, exclude_max=True)


SETTINGS = {
    "momentum": below_one(),
    "decay_rate": below_one(),
    "beta1": below_one(),
    "beta2": below_one(),
    "epsilon": positive(),
    "weight_decay": st.floats(0, 3e38),
}


@st.composite
def experiments(draw: st.DrawFn) -> Hyperparameters:
    """Any hyperparameters that go together."""
    optimizer = draw(st.sampled_from(OPTIMIZERS))
    schedule = draw(st.sampled_from(["constant", "step", "cosine"]))
    own = [name for name, users in OPTIMIZER_SETTINGS.items() if optimizer in users]
    chosen: dict[str, st.SearchStrategy[Any]] = {
        "features": st.lists(texts(), min_size=1, max_size=4),
        "max_categories": st.integers(1, 2**70),
        "min_frequency": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "task": st.sampled_from(GOOD["task"]),
        "validation": texts() | st.floats(0, 1, exclude_min=True, exclude_max=True),
        "hidden": st.lists(st.integers(1, 10**6), max_size=4),
        "activation": st.sampled_from(list(ACTIVATIONS)),
        "initialization": st.sampled_from(INITIALIZATIONS),
        "learning_rate": positive(),
        "l2": st.floats(0, 3e38),
        "clip_norm": positive(),
        "warmup_steps": st.integers(0, 2**70),
        "batch_size": st.integers(1, 2**70) | st.sampled_from(["auto", "full"]),
        "epochs": st.integers(0, 2**70),
        "seed": st.integers(0, 2**63 - 1),
        "shards": st.integers(1, MOST_SHARDS),
        **{name: SETTINGS[name] for name in own},
    }
    if schedule == "step":
        chosen |= {"schedule_every": st.integers(1, 2**70), "schedule_factor": positive()}
    values = draw(st.fixed_dictionaries({}, optional=chosen))
    return Hyperparameters(**values, optimizer=optimizer, schedule=schedule)


@given(experiments())
@settings(max_examples=200, deadline=None)
def test_toml_and_back(hyperparameters: Hyperparameters) -> None:
    text = tomli_w.dumps(hyperparameters.to_mapping())
    again = Hyperparameters.from_mapping(tomllib.loads(text), "its own TOML")
    assert again == hyperparameters
    assert tomli_w.dumps(again.to_mapping()) == text


def test_defaults_in_toml() -> None:
    mapping = Hyperparameters().to_mapping()
    assert mapping["hidden"] == [256, 128]
    assert "features" not in mapping
    assert "momentum" not in mapping


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "my.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs = 3\nhidden = = 8", "line 2"),
        ("epochs = 3\nepochs = 4", "overwrite"),
        ("seed = 1" + "0" * 5000, "TOML"),
        ("hidden = " + "[" * 9999, "TOML"),
        ("task = 'é'".encode("latin-1"), "UTF-8"),
        ("seed = 1\0", "TOML"),
    ],
)
def test_no_toml(content: str | bytes, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=said) as caught:
        read_toml(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_toml_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match=r"cannot be read: .*--config"):
            read_toml(str(path))


# A file, and flags that override it


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "target = 'kind'\nepochs = 3\nhidden = [8]\nlearning_rate = 1\n")

    def experiment(*given: Any) -> tuple[tuple[str, ...] | None, Hyperparameters]:
        target, values = read_experiment(*given)
        return target, Hyperparameters.from_mapping(values, "test")

    assert experiment(path, None, {}) == (
        ("kind",),
        Hyperparameters(epochs=3, hidden=(8,), learning_rate=1.0),
    )
    assert experiment(path, ("price",), {"epochs": 5, "hidden": ()}) == (
        ("price",),
        Hyperparameters(epochs=5, hidden=(), learning_rate=1.0),
    )
    assert experiment(None, ("price",), {"seed": 5}) == (("price",), Hyperparameters(seed=5))
    assert experiment(None, None, {"seed": 5}) == (None, Hyperparameters(seed=5))


def test_where_a_run_is_resumed_flags_may_need_its_own_hyperparameters() -> None:
    given = {"momentum": 0.8}
    assert read_experiment(None, None, given, resume=True) == (None, given)
    with pytest.raises(InputError, match="momentum is a setting"):
        read_experiment(None, None, given)


def test_the_schedule_runs_to_its_own_epochs() -> None:
    assert Hyperparameters(epochs=5).schedule_arguments()["epochs"] == 5
    assert Hyperparameters(epochs=5, schedule_epochs=9).schedule_arguments()["epochs"] == 9


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        ("epochs = -1", {"epochs": 3}, r"^.*my\.toml: epochs must be .*, not -1$"),
        ("epoch = 1", {"epochs": 3}, r"my\.toml: unknown key 'epoch'; did you mean 'epochs'\?$"),
        ("momentum = 0.5", {"optimizer": "momentum"}, r"my\.toml: momentum is a setting"),
        (
            "target = 'y'\noptimizer = 'momentum'\nmomentum = 0.5",
            {"optimizer": "sgd"},
            r"my\.toml with the command line: momentum is a setting of .*, not of sgd: ",
        ),
        ("target = 3", {}, r"my\.toml: target must be the name of a column"),
    ],
)
def test_a_file_must_be_good_by_itself(
    content: str, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=said):
        read_experiment(path, None, given)
