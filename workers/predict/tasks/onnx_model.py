"""ONNX files: named tensors in, named tensors out, checked against what the file declares.

onnxruntime itself keeps external data within the folder, and knows no operators but its own: no library of a model's
is ever registered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from workers.predict.catalog import PredictModel, onnx_file
from workers.predict.parameters import Parameters
from workers.predict.tasks.task import OnStep, Prepared, Task
from workers.runtime.runner import InputRejected, ModelMissing

THREADS = 4  # at most; torch's own wait for the same cores
MAX_NUMBERS = 1_000_000  # of all outputs of one input
BROKEN = (native.Fail, native.InvalidGraph, native.InvalidProtobuf, native.NotImplemented, native.NoSuchFile)
REFUSED = (native.InvalidArgument, native.RuntimeException, native.Fail)
TYPES: dict[str, tuple[Any, str]] = {
    "tensor(float)": (np.float32, "numbers"),
    "tensor(double)": (np.float64, "numbers"),
    "tensor(float16)": (np.float16, "numbers"),
    "tensor(int64)": (np.int64, "integers"),
    "tensor(int32)": (np.int32, "integers"),
    "tensor(int16)": (np.int16, "integers"),
    "tensor(int8)": (np.int8, "integers"),
    "tensor(uint8)": (np.uint8, "integers"),
    "tensor(bool)": (np.bool_, "booleans"),
    "tensor(string)": (np.object_, "texts"),
}


class OnnxModel(Task):
    """`{output: tensor}`. An object gives whole tensors by name; a flat list is one row of a model's only input."""

    def __init__(self, model: PredictModel, device: str) -> None:
        self.device = "cpu"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(onnx_file(model.path)), options, providers=["CPUExecutionProvider"]
            )
        except BROKEN as error:
            raise ModelMissing(f"Model '{model.name}' does not load: {error}") from error
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        if unknown := {entry.type for entry in self._inputs.values()} - TYPES.keys():
            raise ModelMissing(f"Model '{model.name}' takes {', '.join(sorted(unknown))}, which JSON does not give.")
        self._takes_rows = len(self._inputs) == 1 and len(self._only().shape) == 2
        # Rows go in together only where the file names one axis for them, on all sides.
        ends = [(entry.shape or [None])[0] for entry in (self._only(), *self._session.get_outputs())]
        self.batches = self._takes_rows and isinstance(ends[0], str) and len(set(ends)) == 1

    def _only(self) -> Any:
        return next(iter(self._inputs.values()))

    def prepare(self, item: Any, parameters: Parameters, place: str) -> Prepared:
        """Whole tensors by name, or one row [1, N] of the only input."""
        if isinstance(item, dict):
            self._check_names(item, place)
            return Prepared({name: _tensor(item[name], self._inputs[name], f"{place}.{name}") for name in item})
        if not isinstance(item, list) or not self._takes_rows:
            raise InputRejected(f"Invalid {place}: an object is expected, with {self._told()}.")
        return Prepared(_tensor([item], self._only(), place))

    def compute(self, values: Sequence[Any], parameters: Parameters, on_step: OnStep) -> list[Any]:
        rows = [n for n, value in enumerate(values) if not isinstance(value, dict)]
        found: dict[int, dict[str, NDArray[Any]]] = {}
        if rows and self.batches:
            made = self._run({self._only().name: np.concatenate([values[n] for n in rows])})
            if any(len(tensor) != len(rows) for tensor in made.values()):
                raise ModelMissing("The model's outputs do not have the rows that its file declares.")
            found = {n: {name: tensor[place] for name, tensor in made.items()} for place, n in enumerate(rows)}
        for n, value in enumerate(values):
            if n not in found:
                whole = isinstance(value, dict)
                made = self._run(value if whole else {self._only().name: value})
                one_row = not whole and all(tensor.ndim and len(tensor) == 1 for tensor in made.values())
                found[n] = {name: tensor[0] for name, tensor in made.items()} if one_row else made
        return [{name: _json(tensor, name) for name, tensor in found[n].items()} for n in range(len(values))]

    def _run(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            made = self._session.run(self._outputs, feed)
        except REFUSED as error:
            raise InputRejected(f"Invalid inputs: the model refuses them: {str(error)[:300]}") from error
        if not all(isinstance(tensor, np.ndarray) for tensor in made):
            raise InputRejected("The model's output is not made of tensors.")
        return dict(zip(self._outputs, made, strict=True))

    def _check_names(self, item: dict[str, Any], place: str) -> None:
        if unknown := item.keys() - self._inputs.keys():
            raise InputRejected(f"Invalid {place}.{sorted(unknown)[0][:100]}: the model has {self._told()}.")
        if missing := self._inputs.keys() - item.keys():
            raise InputRejected(f"Invalid {place}.{sorted(missing)[0]}: This input is required.")

    def _told(self) -> str:
        return ", ".join(f"{name} {_axes(entry)} of {TYPES[entry.type][1]}" for name, entry in self._inputs.items())


def _axes(entry: Any) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in entry.shape) + "]"


def _tensor(given: Any, entry: Any, place: str) -> NDArray[Any]:
    """Nested lists as the input's tensor; raises InputRejected that says what was expected."""
    dtype, what = TYPES[entry.type]
    shape = _shape(given, place)
    fits = len(shape) == len(entry.shape) and all(
        not isinstance(size, int) or size == length for size, length in zip(entry.shape, shape, strict=True)
    )
    if not fits:
        raise InputRejected(f"Invalid {place}: the shape {list(shape)} does not fit {_axes(entry)}.")
    leaves = list(_leaves(given))
    if not all(_is(what, leaf) for leaf in leaves):
        raise InputRejected(f"Invalid {place}: {what} are expected.")
    if what == "integers" and leaves:
        span = np.iinfo(dtype)
        if min(leaves) < span.min or max(leaves) > span.max:
            raise InputRejected(f"Invalid {place}: between {span.min} and {span.max} are expected.")
    return np.array(leaves, dtype=dtype).reshape(shape)


def _shape(given: Any, place: str) -> tuple[int, ...]:
    """The lengths of nested lists; raises InputRejected if lists of one level differ in theirs."""
    if not isinstance(given, list):
        return ()
    shapes = {_shape(part, place) for part in given}
    if len(shapes) > 1:
        raise InputRejected(f"Invalid {place}: its lists are of different lengths.")
    return (len(given), *(shapes.pop() if shapes else ()))


def _leaves(given: Any) -> Any:
    if isinstance(given, list):
        for part in given:
            yield from _leaves(part)
    else:
        yield given


def _is(what: str, leaf: Any) -> bool:
    if what == "booleans":
        return isinstance(leaf, bool)
    if what == "texts":
        return isinstance(leaf, str)
    number = isinstance(leaf, int) if what == "integers" else isinstance(leaf, int | float) and math.isfinite(leaf)
    return number and not isinstance(leaf, bool)


def _json(tensor: NDArray[Any], name: str) -> Any:
    if tensor.size > MAX_NUMBERS:
        raise InputRejected(f"The output {name} has {tensor.size} numbers; at most {MAX_NUMBERS} are told.")
    if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
        raise InputRejected(f"The model answers this with numbers that are none, in its output {name}.")
    return tensor.tolist()
