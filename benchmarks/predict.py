"""Predictions a second with and without batches, beside LitServe around the same code, which keeps nothing.

The example model shows what a request costs; an encoder of six layers, whose weights are random, what batches are
worth: to rates it makes no difference what a network was taught.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import measure
from benchmarks.servers import platform, process
from benchmarks.table import row
from services.local.processes import usable_port
from workers.predict.spec import MAX_BATCH

CONNECTIONS = 64
TEXT = "the quick brown fox jumps over the lazy dog and sleeps under the old tree"
BODIES = {
    "example": {"model_name": "example", "inputs": [1, 2, 3, 4, 5]},
    "encoder": {"model_name": "encoder", "inputs": TEXT},
}


def bench_predict(seconds: float) -> dict[str, Any]:
    """Every server alone; 64 connections that wait for their results."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        os.environ["ATELIER_MODELS_DIR"] = folder
        build_encoder(Path(folder, "predict", "encoder"))
        with platform() as (client, _):
            address = f"{str(client.base_url).rstrip('/')}/predict?wait=60"
            for model, body in BODIES.items():
                for name, batching in (("batches", True), ("one by one", False)):
                    label = f"{model}, Atelier, {name}"
                    figures[label] = _measured(label, address, body | {"enable_batching": batching}, seconds)
        for model, body in BODIES.items():
            for name, max_batch in (("batches", MAX_BATCH), ("one by one", 1)):
                with _litserve(model, max_batch) as address:
                    label = f"{model}, LitServe, {name}"
                    figures[label] = _measured(label, address, body, seconds)
    return figures


def _measured(label: str, address: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
    measure("POST", address, body, CONNECTIONS, 2)  # the model is loaded, and everything is warm
    return row(label, measure("POST", address, body, CONNECTIONS, seconds))


@contextmanager
def _litserve(model: str, max_batch: int) -> Iterator[str]:
    port = usable_port(0)
    command = ("benchmarks.litserve_app", str(port), model, str(max_batch))
    with process(dict(os.environ), *command, ready=f"http://127.0.0.1:{port}/health") as server:
        try:
            yield f"http://127.0.0.1:{port}/predict"
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its own processes outlive it otherwise


def build_encoder(path: Path) -> None:
    """A BERT of six layers, 256 wide, that tells two labels apart."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", *sorted(set(TEXT.split()))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024
    )
    BertForSequenceClassification(config).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
