"""True networks of a few thousand random weights, one folder a task: for loading and running, not for answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers as t
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

WORDS = "the a red blue green cat dog house sky runs sleeps is was over under big small this example and".split()  # noqa: SIM905
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIONS = 24
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
}


def tokenizer(ends: bool = True) -> t.PreTrainedTokenizerFast:
    """A word is a token; with `ends` between [CLS] and [SEP], and with padding."""
    vocabulary = {word: n for n, word in enumerate([*SPECIAL, *WORDS, *(f"w{n}" for n in range(100))])}
    found = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    found.pre_tokenizer = WhitespaceSplit()
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    if ends:
        found.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    else:
        names = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    return t.PreTrainedTokenizerFast(tokenizer_object=found, model_max_length=10**6, **names)


def save(network: Any, path: Path, *parts: Any) -> Path:
    for part in (network, *parts):
        part.save_pretrained(path)
    return path


def build_all(root: Path) -> None:
    """A folder for each task under `root`, named after it."""
    torch.manual_seed(0)
    words = tokenizer()
    sizes = {**BERT, "vocab_size": len(words), "initializer_range": 0.5}  # answers far from each other
    three = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}
    nli = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
    nli["label2id"] = {label: n for n, label in nli["id2label"].items()}  # type: ignore[assignment]
    bert = t.BertConfig(**sizes, **three)
    save(t.BertForSequenceClassification(bert), root / "text-classification", words)
    save(t.BertForSequenceClassification(t.BertConfig(**sizes, **nli)), root / "zero-shot-classification", words)
    save(t.BertForMaskedLM(t.BertConfig(**sizes)), root / "fill-mask", words)
    save(t.BertModel(t.BertConfig(**sizes), add_pooling_layer=False), root / "feature-extraction", words)
    distil = t.DistilBertConfig(
        vocab_size=len(words),
        dim=16,
        n_layers=2,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
        **three,
    )
    save(t.DistilBertForSequenceClassification(distil), root / "distil", words)
    vit = t.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        initializer_range=0.5,
        **three,
    )
    processor = t.ViTImageProcessorPil(size={"height": 32, "width": 32})
    save(t.ViTForImageClassification(vit), root / "image-classification", processor)
    bart = t.BartConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=POSITIONS,
        init_std=0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=3,
        forced_eos_token_id=None,
    )
    save(t.BartForConditionalGeneration(bart), root / "summarization", words)
    gpt = t.GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=2, n_head=2, n_positions=POSITIONS, initializer_range=0.5,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    save(t.GPT2LMHeadModel(gpt), root / "text-generation", tokenizer(ends=False))
    build_onnx(root / "rows")
    build_named(root / "named")


def build_onnx(path: Path, rows: str | int = "rows", out: str | int = "rows") -> Path:
    """[rows, 3] float → [rows, 2] float: a product with fixed weights."""
    path.mkdir(parents=True)
    weights = numpy_helper.from_array(np.array([[1, -1], [2, 0.5], [0, 3]], np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [out, 2])],
        [weights],
    )
    return _save_onnx(graph, path)


def build_named(path: Path) -> Path:
    """`ids` [n] int64 and `scale` [1] float → `scaled` [n], and `text` given back."""
    path.mkdir(parents=True)
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "scale"], ["scaled"]),
            helper.make_node("Identity", ["text"], ["said"]),
        ],
        "named",
        [
            info("ids", TensorProto.INT64, ["n"]),
            info("scale", TensorProto.FLOAT, [1]),
            info("text", TensorProto.STRING, [1]),
        ],
        [info("scaled", TensorProto.FLOAT, ["n"]), info("said", TensorProto.STRING, [1])],
    )
    return _save_onnx(graph, path)


def _save_onnx(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return path
