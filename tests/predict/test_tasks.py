"""Every task on a true, tiny network: what it answers, what it refuses, and that company changes no answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from shared.family import FileInput
from tests.predict.conftest import RecordedJob, asked
from tests.predict.tiny import BERT, POSITIONS, tokenizer
from workers.predict.runner import PredictRunner
from workers.runtime.runner import InputRejected, JobStopped, ModelMissing

TOLERANCE = 1e-5  # of float32 on the CPU, stated in workers/predict/README.md
SHORT, LONG = "the cat", "the big red dog sleeps under the small blue house and"
LABELS = {"candidate_labels": ["red", "blue sky", "a cat"]}


def picture(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


def data_uri(colour: str) -> str:
    return "data:image/png;base64," + base64.b64encode(picture(colour)).decode()


EVERY = {
    "example": ([[1, 2, 3], [4.5], "text"], {}),
    "text-classification": ([SHORT, LONG, "a dog runs"], {}),
    "distil": ([SHORT, LONG, "a dog runs"], {}),
    "feature-extraction": ([SHORT, LONG, "a dog runs"], {"normalize": True}),
    "fill-mask": ([f"{SHORT} [MASK]", f"[MASK] {LONG}"], {"top_k": 3}),
    "zero-shot-classification": ([SHORT, LONG], LABELS),
    "image-classification": ([data_uri("red"), data_uri("blue")], {}),
    "summarization": ([SHORT, LONG], {"max_new_tokens": 6}),
    "text-generation": ([SHORT, LONG], {"max_new_tokens": 6}),
    "rows": ([[1, 2, 3], [4, 5, 6.5]], {}),
    "named": ([{"ids": [1, 2], "scale": [2], "text": ["x"]}, {"ids": [7], "scale": [0.5], "text": ["y"]}], {}),
}


def same(one: Any, other: Any) -> bool:
    """Equal, numbers within the tolerance."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == pytest.approx(other, abs=TOLERANCE, rel=TOLERANCE) if isinstance(one, float) else one == other


def separate(items: list[Any]) -> list[list[Any]]:
    """Batches that one request may send: of one kind each."""
    return [[item for item in items if type(item) is kind] for kind in dict.fromkeys(map(type, items))]


@pytest.mark.parametrize("model", EVERY)
def test_a_batch_answers_as_its_inputs_would_alone(ask: Any, model: str) -> None:
    items, parameters = EVERY[model]
    alone = [ask(model, item, parameters=parameters) for item in items]
    assert not same(alone[0]["result"], alone[1]["result"]), "they are told apart at all"
    assert alone[0]["model_info"]["input_type"] == "single"
    for batch in separate(items):
        together = ask(model, batch, parameters=parameters)
        expected = [answer["result"] for answer, item in zip(alone, items, strict=True) if item in batch]
        assert same(together["result"], expected)
        assert together["model_info"]["input_type"] == "batch"
        assert together["model_info"]["input_count"] == len(batch)


@pytest.mark.parametrize("model", EVERY)
def test_requests_that_are_run_together_answer_as_they_would_alone(
    ask: Any, runner_of: Callable[[str], PredictRunner], model: str
) -> None:
    items, parameters = EVERY[model]
    inputs = [items[0], *separate(items[:2])]
    requests = [asked(model, item, parameters=parameters) for item in inputs]
    outputs = runner_of(model).run_batch(requests, [RecordedJob() for _ in requests])
    shared = {"shared_batch"} if model not in ("summarization", "text-generation", "named") else {"single"}
    for item, output in zip(inputs, outputs, strict=True):
        assert isinstance(output, dict)
        assert same(output["result"], ask(model, item, parameters=parameters)["result"])
        assert {output["model_info"]["processing_path"]} == shared
        assert output["batch_info"]["requests"] == len(requests)
        assert output["batch_info"]["concurrent_optimization"] == output["batch_info"]["processed_as_batch"]
        assert output["batch_info"]["processed_as_batch"] == (shared == {"shared_batch"})


def test_one_bad_request_fails_alone_and_one_that_stops_is_left_out(runner_of: Callable[[str], PredictRunner]) -> None:
    requests = [
        asked("text-classification", SHORT),
        asked("text-classification", "the " * POSITIONS),
        asked("text-classification", [LONG, SHORT]),
        asked("text-classification", LONG),
    ]
    stopped = RecordedJob()
    stopped.cancelled = True
    good, bad, several, _ = runner_of("text-classification").run_batch(
        requests, [RecordedJob(), RecordedJob(), RecordedJob(), stopped]
    )
    assert isinstance(bad, InputRejected)
    assert isinstance(good, dict)
    assert isinstance(several, dict)
    assert (good["batch_info"]["batch_size"], good["batch_info"]["requests"]) == (3, 2)
    assert same(several["result"][1], good["result"])


def test_a_generation_that_is_stopped_does_not_touch_the_next(runner_of: Callable[[str], PredictRunner]) -> None:
    request = asked("text-generation", SHORT, parameters={"max_new_tokens": 6})
    stopped, going = RecordedJob(stop_at=2), RecordedJob()
    _, output = runner_of("text-generation").run_batch([request, request], [stopped, going])
    assert isinstance(output, dict)
    assert output["result"]["new_tokens"] == 6
    assert [step for step, _ in stopped.steps] == [1, 2]


def test_labels_are_what_the_network_says(ask: Any, models_dir: Path) -> None:
    folder = models_dir / "predict" / "text-classification"
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = network(**AutoTokenizer.from_pretrained(folder)(LONG, return_tensors="pt")).logits[0]
    result = ask("text-classification", LONG)["result"]
    assert [entry["label"] for entry in result] == [("bad", "fair", "good")[n] for n in logits.argsort(descending=True)]
    assert sum(entry["score"] for entry in result) == pytest.approx(1)
    assert len(ask("text-classification", LONG, parameters={"top_k": 1})["result"]) == 1


def test_a_gap_is_filled(ask: Any) -> None:
    result = ask("fill-mask", "the [MASK] sleeps", parameters={"top_k": 2})["result"]
    assert len(result) == 2
    assert result[0]["score"] > result[1]["score"]
    assert result[0]["sequence"] == f"the {result[0]['token_str']} sleeps"


def test_features_are_pooled_as_asked(ask: Any) -> None:
    vectors = [
        ask("feature-extraction", LONG, parameters=p)["result"] for p in ({}, {"pooling": "cls"}, {"normalize": True})
    ]
    assert all(len(vector) == BERT["hidden_size"] for vector in vectors)
    assert not same(vectors[0], vectors[1])
    assert sum(number**2 for number in vectors[2]) == pytest.approx(1)


def test_zero_shot_labels_compete_unless_told_otherwise(ask: Any) -> None:
    one = ask("zero-shot-classification", SHORT, parameters=LABELS)["result"]
    assert sum(one["scores"]) == pytest.approx(1)
    assert sorted(one["labels"]) == sorted(LABELS["candidate_labels"])
    several = ask("zero-shot-classification", SHORT, parameters={**LABELS, "multi_label": True})["result"]
    assert not same(sorted(one["scores"]), sorted(several["scores"]))
    template = {**LABELS, "hypothesis_template": "w1 w2 {}"}
    assert not same(ask("zero-shot-classification", SHORT, parameters=template)["result"]["scores"], one["scores"])
    named = ask("zero-shot-classification", {"text": SHORT, **LABELS})
    assert same(named["result"], one)


def test_a_picture_may_come_as_a_file(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(picture("red"))
    job = RecordedJob(inputs={"image": path})
    assert same(
        ask("image-classification", job=job, image={"name": "red.png"})["result"],
        ask("image-classification", data_uri("red"))["result"],
    )


def test_generation_tells_each_token_and_stops_at_once(ask: Any) -> None:
    job = RecordedJob()
    answer = ask("text-generation", SHORT, job, parameters={"max_new_tokens": 5})
    assert job.steps[:5] == [(n, 5) for n in range(1, 6)]
    assert answer["result"]["finish_reason"] == "length"
    for model in ("text-generation", "summarization"):
        stopped = RecordedJob(stop_at=2)
        with pytest.raises(JobStopped):
            ask(model, SHORT, stopped, parameters={"max_new_tokens": 5})
        assert len(stopped.steps) == 2


def test_sampling_follows_its_seed(ask: Any) -> None:
    def text(seed: int | None = None, **more: Any) -> dict[str, Any]:
        sampled = {"max_new_tokens": 8, "temperature": 2.0, **({"seed": seed} if seed is not None else {}), **more}
        return ask("text-generation", SHORT, parameters=sampled)

    first = text(1)
    assert text(1)["result"] == first["result"]
    assert len({text(seed)["result"]["generated_text"] for seed in range(4)}) > 1
    free = text()
    assert text(free["model_info"]["seed"])["result"] == free["result"], "the seed that was chosen is told"
    greedy = ask("text-generation", SHORT, parameters={"max_new_tokens": 8})["result"]["generated_text"]
    assert text(1, top_k=1)["result"]["generated_text"] == greedy
    assert text(1, top_p=1e-6)["result"]["generated_text"] == greedy


def test_the_rest_of_the_generations_parameters_act(ask: Any) -> None:
    plain = ask("text-generation", LONG, parameters={"max_new_tokens": 12})["result"]["generated_text"]
    varied = {"max_new_tokens": 12, "repetition_penalty": 3.0}
    assert ask("text-generation", LONG, parameters=varied)["result"]["generated_text"] != plain
    full = {"max_new_tokens": 12, "return_full_text": True}
    assert ask("text-generation", LONG, parameters=full)["result"]["generated_text"] == f"{LONG} {plain}"
    summaries = {
        beams: ask("summarization", LONG, parameters={"max_new_tokens": 10, "num_beams": beams})["result"][
            "summary_text"
        ]
        for beams in (1, 8)
    }
    assert summaries[1] != summaries[8]


@pytest.mark.parametrize("model", ["text-classification", "summarization", "text-generation"])
def test_a_text_that_is_too_long_is_refused_or_cut_as_asked(ask: Any, model: str) -> None:
    short = {} if model == "text-classification" else {"max_new_tokens": 4}
    endless = "the cat runs " * POSITIONS
    with pytest.raises(InputRejected, match=r"inputs\.1: \d+ tokens, .* at most \d+"):
        ask(model, [SHORT, endless], parameters=short)
    answer = ask(model, [SHORT, endless], parameters={**short, "truncation": True})
    assert answer["model_info"]["truncated"] == [1]
    assert ask(model, SHORT, parameters={**short, "truncation": True})["model_info"]["truncated"] == []


@pytest.mark.parametrize(
    ("model", "inputs", "parameters", "words"),
    [
        ("text-classification", [1, 2], {}, "inputs: text-classification takes a text"),
        ("text-classification", SHORT, {"max_new_tokens": 3}, r"parameters\.max_new_tokens: text-classification"),
        ("text-classification", SHORT, {"candidate_labels": ["a"]}, r"parameters\.candidate_labels"),
        ("image-classification", SHORT, {}, "inputs: it is neither base64 nor"),
        ("image-classification", base64.b64encode(b"no picture").decode(), {}, "inputs cannot be read as a picture"),
        ("image-classification", [[1, 2]], {}, r"inputs: image-classification takes a text or a file in `image`"),
        ("zero-shot-classification", SHORT, {}, r"parameters\.candidate_labels"),
        ("zero-shot-classification", {"text": SHORT, "labels": ["a"]}, {}, "inputs: an object has"),
        ("zero-shot-classification", {"text": SHORT, "candidate_labels": []}, {}, r"inputs\.candidate_labels"),
        ("fill-mask", SHORT, {}, r"inputs: the text must hold \[MASK\] once"),
        ("fill-mask", ["[MASK]", "[MASK] [MASK]"], {}, r"inputs\.1: the text must hold \[MASK\] once"),
        ("text-generation", SHORT, {"top_k": 3}, r"parameters\.top_k: it acts only with a temperature"),
        ("text-generation", SHORT, {"max_new_tokens": POSITIONS}, r"parameters\.max_new_tokens"),
        ("summarization", SHORT, {"max_new_tokens": POSITIONS}, r"parameters\.max_new_tokens"),
        ("summarization", SHORT, {"temperature": 1.0}, r"parameters\.(seed|temperature): summarization"),
    ],
    ids=str,
)
def test_what_a_task_does_not_know_is_named(
    ask: Any, model: str, inputs: Any, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputRejected, match=words):
        ask(model, inputs, parameters=parameters)


def test_a_text_model_takes_no_file(ask: Any, tmp_path: Path) -> None:
    job = RecordedJob(inputs={"image": tmp_path / "x"})
    with pytest.raises(InputRejected, match="image: text-classification takes a text"):
        ask("text-classification", job=job, image=FileInput(name="x").model_dump())


def test_weights_that_are_missing_are_not_made_up(models_dir: Path) -> None:
    path = models_dir / "predict" / "headless"
    config = BertConfig(**BERT, vocab_size=200)
    BertModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    (path / "atelier.json").write_text('{"task": "text-classification"}')
    with pytest.raises(ModelMissing, match="lacks weights for text-classification: classifier"):
        PredictRunner().setup("cpu", "headless")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_folder_is_a_missing_model(models_dir: Path, file: str, tmp_path: Path) -> None:
    import shutil

    broken = models_dir / "predict" / "broken"
    shutil.copytree(models_dir / "predict" / "text-classification", broken)
    try:
        (broken / file).write_bytes(b"damaged")
        with pytest.raises(ModelMissing, match="broken"):
            PredictRunner().setup("cpu", "broken")
    finally:
        shutil.rmtree(broken)
