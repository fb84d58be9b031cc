"""Whether a request suits the task of its model: the gateway asks before it accepts, the runner again. No torch."""

from __future__ import annotations

from collections.abc import Set

from workers.predict.items import Kind
from workers.predict.parameters import TAKES, Parameters

ALONE = {"summarization", "text-generation"}  # rounding in a batch could turn one word, and with it all that follow
# Task → the kinds of inputs that it takes; the other tasks take texts.
KINDS: dict[str, Set[Kind]] = {
    "tabular-regression": {"numbers", "text"},
    "onnx": {"numbers", "named"},
    "image-classification": {"text", "picture"},
    "zero-shot-classification": {"text", "named"},
}
WORDS: dict[Kind, str] = {
    "numbers": "a list of numbers",
    "text": "a text",
    "named": "an object",
    "picture": "a file in `image`",
}


class Misfit(ValueError):
    """The request does not suit the task; `field` names the place."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"Invalid {field}: {message}")
        self.field = field


def check(task: str, kind: Kind, parameters: Parameters) -> None:
    """Raise Misfit for inputs of a kind that the task does not take, and for parameters that it does not know."""
    taken = KINDS.get(task, {"text"})
    if kind not in taken:
        expected = " or ".join(WORDS[one] for one in WORDS if one in taken)
        raise Misfit("image" if kind == "picture" else "inputs", f"{task} takes {expected}.")
    if unknown := parameters.given().keys() - TAKES[task]:
        raise Misfit(f"parameters.{min(unknown)}", f"{task} does not take it.")
    if task == "zero-shot-classification" and kind == "text" and not parameters.candidate_labels:
        raise Misfit("parameters.candidate_labels", "This field is required.")
    if task == "text-generation" and parameters.top_k is not None and parameters.temperature is None:
        raise Misfit("parameters.top_k", "it acts only with a temperature.")
