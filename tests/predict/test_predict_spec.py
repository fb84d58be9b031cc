"""What /predict accepts, and which requests may be computed together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import NotFound, ValidationFailed
from shared.family import ModelRef
from tests.predict.conftest import asked
from workers.predict.items import MAX_ITEMS, split
from workers.predict.parameters import TAKES, Parameters
from workers.predict.spec import PREDICT, batch_key
from workers.predict.tasks import TASKS

FILE = {"name": "x.png", "sha256": "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("inputs", "kind", "count", "batch"),
    [
        ([1, 2.5], "numbers", 1, False),
        ([[1], [2, 3]], "numbers", 2, True),
        ("a text", "text", 1, False),
        (["a text"], "text", 1, True),
        ({"x": [1]}, "named", 1, False),
        ([{"x": 1}, {"x": 2}], "named", 2, True),
    ],
    ids=str,
)
def test_a_flat_list_is_one_input_and_a_list_of_inputs_is_a_batch(
    inputs: Any, kind: str, count: int, batch: bool
) -> None:
    items = split(inputs)
    assert (items.kind, len(items.values), items.batch) == (kind, count, batch)


@pytest.mark.parametrize(
    "inputs",
    [
        None, [], [[]], {}, "", "  ", 5, True, [True], [None], [1, "a"], [[1], "a"], [[1], [None]], [[[1]]],
        [float("nan")], [[float("inf")]], [{}], ["a", " "], [[1]] * (MAX_ITEMS + 1), "x" * 100_001,
    ],
    ids=lambda inputs: str(inputs)[:30],
)  # fmt: skip
def test_what_is_no_input_is_refused_by_name(inputs: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        PREDICT.input.model_validate({"model_name": "x", "inputs": inputs})
    assert refused.value.errors()[0]["loc"] == ("inputs",)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"inputs": [1] * 11}, ("inputs",)),
        ({"inputs": [[1], [1] * 11]}, ("inputs",)),
        ({"inputs": {"x": 1}}, ("inputs",)),
        ({"inputs": None, "image": FILE}, ("inputs",)),
        ({"image": FILE}, ("inputs",)),
        ({"parameters": {"top_k": 1}}, ("parameters",)),
        ({"parameters": {"unknown": 1}}, ("parameters", "unknown")),
        ({"parameters": {"seed": 1}}, ("parameters",)),
        ({"parameters": {"max_new_tokens": 0}}, ("parameters", "max_new_tokens")),
        ({"parameters": {"hypothesis_template": "no place"}}, ("parameters", "hypothesis_template")),
        ({"priority": 11}, ("priority",)),
        ({"timeout": 0}, ("timeout",)),
        ({"timeout": "1"}, ("timeout",)),
        ({"enable_batching": 1}, ("enable_batching",)),
    ],
    ids=str,
)
def test_other_fields_are_refused_by_name(fields: dict[str, Any], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        PREDICT.input.model_validate({"model_name": "example", "inputs": [1], **fields})
    assert refused.value.errors()[0]["loc"] == place


def test_every_task_and_every_parameter_is_somebodys() -> None:
    assert TAKES.keys() == TASKS.keys()
    assert frozenset().union(*TAKES.values()) == set(Parameters.model_fields)


def test_what_is_left_open_is_fixed_before_the_job_is_accepted() -> None:
    assert asked("x", "a", priority=10).priority == 9
    assert asked("x", "a").priority is None
    sampled = asked("x", "a", parameters={"temperature": 1.0}).parameters
    assert sampled.seed is not None
    assert asked("x", "a", parameters={"temperature": 1.0, "seed": 7}).parameters.seed == 7
    assert asked("x", "a").parameters.seed is None


def test_the_token_is_no_part_of_what_is_kept() -> None:
    assert "secret" not in asked("x", "a", token="secret").model_dump_json()


@pytest.mark.parametrize(
    ("task", "fields", "field"),
    [
        ("text-classification", {"inputs": [1]}, "inputs"),
        ("text-classification", {"image": FILE}, "image"),
        ("onnx", {"inputs": "a"}, "inputs"),
        ("image-classification", {"inputs": {"x": 1}}, "inputs"),
        ("fill-mask", {"inputs": "a", "parameters": {"seed": 1, "temperature": 1.0}}, "parameters.seed"),
        ("zero-shot-classification", {"inputs": "a"}, "parameters.candidate_labels"),
        ("text-generation", {"inputs": "a", "parameters": {"top_k": 1}}, "parameters.top_k"),
    ],
    ids=str,
)
def test_what_does_not_suit_the_models_task_is_refused_before_there_is_a_job(
    task: str, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        PREDICT.suit(asked("x", **fields), {"x": {"task": task}})
    assert refused.value.details["field"] == field


def test_what_is_written_word_by_word_is_not_batched() -> None:
    assert batch_key(PREDICT.suit(asked("x", "a"), {"x": {"task": "text-generation"}})) is None
    assert batch_key(PREDICT.suit(asked("x", "a"), {"x": {"task": "fill-mask"}})) is not None


def test_time_limit_and_model_are_the_requests() -> None:
    assert PREDICT.time_limit(asked("x", "a", timeout=2.5)) == 2.5
    assert PREDICT.time_limit(asked("x", "a")) is None
    error = PREDICT.missing_model(ModelRef("model", "x", "model_name"), ["example"])
    assert isinstance(error, NotFound)
    assert error.message == "Model 'x' is not available. Check models.json configuration."
    assert error.details == {"field": "model_name", "available": ["example"]}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"inputs": "a"}, {"inputs": ["b", "c"]}, True),
        ({"inputs": "a"}, {"inputs": "b" * 100}, False),
        ({"inputs": [1, 2]}, {"inputs": [3, 4]}, True),
        ({"inputs": [1, 2]}, {"inputs": [3, 4, 5]}, False),
        ({"inputs": [1]}, {"inputs": "a"}, False),
        ({"inputs": "a"}, {"inputs": "a", "model_name": "y"}, False),
        ({"inputs": "a"}, {"inputs": "a", "parameters": {"top_k": 1}}, False),
        ({"inputs": "a", "priority": 3, "timeout": 1.0}, {"inputs": "b"}, True),
        ({"image": FILE}, {"image": {**FILE, "name": "y"}}, True),
    ],
    ids=str,
)
def test_only_equal_kinds_of_work_go_together(one: dict[str, Any], other: dict[str, Any], together: bool) -> None:
    keys = [batch_key(asked(**{"model": "x", **_renamed(fields)})) for fields in (one, other)]
    assert None not in keys
    assert (keys[0] == keys[1]) is together


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    return {"model" if name == "model_name" else name: value for name, value in fields.items()}


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": "a", "enable_batching": False},
        {"inputs": {"x": [1]}},
        {"inputs": [[1], [1, 2]]},
        {"image": {"name": "x", "source": "https://example.com/x.png"}},
    ],
    ids=str,
)
def test_what_goes_alone(fields: dict[str, Any]) -> None:
    assert batch_key(asked("x", **fields)) is None
