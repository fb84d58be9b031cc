"""ONNX files: what the file declares is asked for by name, and nothing outside its folder is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.predict.tiny import build_onnx
from workers.predict.catalog import PredictModel
from workers.predict.parameters import Parameters
from workers.predict.tasks.onnx_model import OnnxModel
from workers.runtime.runner import InputRejected, ModelMissing

NAMED = {"ids": [3, 1, 2], "scale": [2], "text": ["hé"]}


def test_tensors_go_in_and_come_out_by_name(ask: Any) -> None:
    assert ask("named", NAMED)["result"] == {"scaled": [1.5, 0.5, 1.0], "said": ["hé"]}
    assert ask("rows", {"x": [[1, 2, 3], [0, 0, 1]]})["result"] == {"y": [[5.0, 9.0], [0.0, 3.0]]}
    assert ask("rows", [1, 2, 3])["result"] == {"y": [5.0, 9.0]}


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        ("named", {**NAMED, "ids": [1.5]}, r"inputs\.ids: integers"),
        ("named", {**NAMED, "ids": [True]}, r"inputs\.ids: integers"),
        ("named", {**NAMED, "ids": ["1"]}, r"inputs\.ids: integers"),
        ("named", {**NAMED, "ids": [[1], [2, 3]]}, r"inputs\.ids: its lists are of different lengths"),
        ("named", {**NAMED, "ids": [[1]]}, r"inputs\.ids: the shape \[1, 1\] does not fit \[n\]"),
        ("named", {**NAMED, "scale": [1, 2]}, r"inputs\.scale: the shape \[2\] does not fit \[1\]"),
        ("named", {**NAMED, "scale": [None]}, r"inputs\.scale: numbers"),
        ("named", {**NAMED, "text": [1]}, r"inputs\.text: texts"),
        ("named", {**NAMED, "more": [1]}, r"inputs\.more: the model has ids \[n\] of integers"),
        ("named", {"ids": [1]}, r"inputs\.scale: This input is required"),
        ("named", [1, 2], r"inputs: an object is expected, with ids \[n\] of integers, scale \[1\] of numbers"),
        ("named", {**NAMED, "scale": [0]}, "numbers that are none, in its output scaled"),
        ("rows", [1, 2], r"inputs: the shape \[1, 2\] does not fit \[rows, 3\]"),
        ("rows", [[1, 2, 3], [1]], r"inputs\.1: the shape"),
        ("rows", "text", "inputs: onnx takes a list of numbers or an object"),
        ("rows", [{"x": [[1, 2, 3]]}, {"y": [1]}], r"inputs\.1\.y"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(ask: Any, model: str, inputs: Any, words: str) -> None:
    with pytest.raises(InputRejected, match=words):
        ask(model, inputs)


def load(path: Path) -> OnnxModel:
    return OnnxModel(PredictModel("mine", path, "onnx"), "cpu")


@pytest.mark.parametrize(("rows", "out"), [(1, 1), ("a", "b")], ids=str)
def test_rows_go_in_together_only_where_the_file_says_that_they_may(tmp_path: Path, rows: Any, out: Any) -> None:
    model = load(build_onnx(tmp_path / "m", rows, out))
    assert not model.batches
    prepared = [model.prepare(row, Parameters(), "inputs").value for row in ([1, 2, 3], [0, 0, 1])]
    assert model.compute(prepared, Parameters(), lambda _: None) == [{"y": [5.0, 9.0]}, {"y": [0.0, 3.0]}]


@pytest.mark.parametrize("place", ["inside.data", "../outside.data", "link.data", "absolute"])
def test_weights_lie_in_the_models_folder_or_nowhere(tmp_path: Path, place: str) -> None:
    folder, outside = build_onnx(tmp_path / "m"), tmp_path / "outside.data"
    weights = np.arange(6, dtype=np.float32).tobytes()
    for path in (folder / "inside.data", outside):
        path.write_bytes(weights)
    (folder / "link.data").symlink_to(outside)
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": str(outside) if place == "absolute" else place, "length": "24"}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if place == "inside.data":
        assert load(folder).batches
    else:
        with pytest.raises(ModelMissing):
            load(folder)


def test_operators_of_others_and_what_is_no_model_are_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Strange", ["x"], ["y"], domain="somebody.else")],
        "strange",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "w")],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("somebody.else", 1)]
    strange = helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString()
    for content in (strange, b"no model"):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ModelMissing, match="mine"):
            load(tmp_path)
