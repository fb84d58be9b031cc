"""The parameters of all tasks, each with its range, and which task takes which of them. No torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from shared.family import MAX_SEED, Schema

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Parameters(Schema):
    """How a task does its work. What is left out is the task's own default; a task refuses what it does not know."""

    top_k: int | None = Field(
        None,
        ge=1,
        le=100,
        description="How many labels or words to tell (5); of a text that is sampled: from how many.",
    )
    truncation: bool | None = Field(
        None, description="Cut inputs that are too long, and say so in `model_info.truncated`; else they are refused."
    )
    candidate_labels: list[Label] | None = Field(None, min_length=1, max_length=50, description="Zero-shot: required.")
    hypothesis_template: str | None = Field(
        None, min_length=3, max_length=200, description="Zero-shot: a sentence with {} for the label."
    )
    multi_label: bool | None = Field(None, description="Zero-shot: each label by itself, instead of one of them.")
    pooling: Literal["mean", "cls"] | None = Field(
        None, description="Features: the mean over all tokens, or the first one's."
    )
    normalize: bool | None = Field(None, description="Features: of length 1.")
    max_new_tokens: int | None = Field(None, ge=1, le=2048, description="Of a generated text (64).")
    num_beams: int | None = Field(None, ge=1, le=8, description="Of a summary (1).")
    temperature: float | None = Field(None, gt=0, le=5, description="Sample; left out, the likeliest token is taken.")
    top_p: float | None = Field(None, gt=0, le=1, description="Sample from the likeliest tokens of this mass.")
    repetition_penalty: float | None = Field(None, ge=1, le=3, description="Above 1, repetitions become less likely.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Of the sampling. Left out, one is chosen and told.")
    return_full_text: bool | None = Field(None, description="Begin the answer with the prompt (false).")

    @field_validator("hypothesis_template")
    @classmethod
    def _has_a_place(cls, template: str | None) -> str | None:
        if template is not None and template.count("{}") != 1:
            raise ValueError("hypothesis_template must hold {} once")
        return template

    @model_validator(mode="after")
    def _sampling_needs_a_temperature(self) -> Self:
        for name in ("top_p", "seed"):
            if getattr(self, name) is not None and self.temperature is None:
                raise ValueError(f"{name} acts only with a temperature")
        return self

    def given(self) -> dict[str, Any]:
        """What the request says."""
        return self.model_dump(exclude_none=True)


TEXT = frozenset({"truncation"})
GENERATION = frozenset({"max_new_tokens", "repetition_penalty"})
TAKES: dict[str, frozenset[str]] = {
    "tabular-regression": frozenset(),
    "onnx": frozenset(),
    "text-classification": TEXT | {"top_k"},
    "image-classification": frozenset({"top_k"}),
    "feature-extraction": TEXT | {"pooling", "normalize"},
    "fill-mask": TEXT | {"top_k"},
    "zero-shot-classification": TEXT | {"candidate_labels", "hypothesis_template", "multi_label"},
    "summarization": TEXT | GENERATION | {"num_beams"},
    "text-generation": TEXT | GENERATION | {"temperature", "top_k", "top_p", "seed", "return_full_text"},
}
