"""Trains the house ear from nothing: `python -m workers.speech.house.train --minutes 60 --work FOLDER`.

First eSpeak speaks a corpus; then the network hears single sentences, cut short; then whole windows, as in use. It
goes on from its checkpoint in the work folder, and writes the averaged weights to the folder that is shipped.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from workers.speech.house import corpus, networks, score
from workers.speech.house.features import log_mel
from workers.speech.house.language import sentence, vocabulary
from workers.speech.house.lessons import IGNORED, Lessons, Teacher

WEIGHTS = Path(__file__).parent / "weights" / "ear"
PARTS = 60  # thousands of sentences
BATCH = {"sentences": 24, "several": 12, "windows": 10}
SENTENCES, SEVERAL = (1, 1, 1, 1, 2), (1, 2, 3, 4, 5)  # how many to a window
WINDOWS_FROM = 0.65  # of the run's time
HARD_FROM = 1.0  # the voices are clear at first, and as spoilt as they will be from here on
PEAK, WARM, COOL = 1.5e-3, 300, 0.4  # learning rate, the steps until it is reached, the share of time it falls for
BY_SOUND = 1.0  # weight of the encoder's own lesson: to spell the sounds it hears
BY_TIME, NEAR = 1.0, 0.2  # weight of the guided heads' lesson; what is near the next word, in seconds
SMOOTHING = 0.05
CHECKED = ("held-out sentences", "held-out sentences, usual voices", "held-out voices")
REPORT, CHECK = 50, 300.0  # steps and seconds between lines of the log
LETTERS = "abdefhijklmnopstuvwzæðŋɐɑɔəɚɛɜɡɪɹɾʃʊʌʒθᵻ"


class Learner(nn.Module):
    """The ear, and the head that spells sounds (CTC), which only training needs."""

    def __init__(self, ear: WhisperForConditionalGeneration):
        super().__init__()
        ear.set_attn_implementation("eager")  # it shows where it looks, and on a CPU learns nearly twice as fast
        self.ear = ear
        self.spelling = nn.Linear(networks.WIDTH, len(LETTERS) + 1)

    def forward(self, lessons: Lessons) -> tuple[Tensor, Tensor, Tensor]:
        """The losses by text, by sound and by time."""
        mel = log_mel(lessons.waves, lessons.gains)
        if lessons.masked:
            mel = masked(mel)
        with torch.autocast("cpu", torch.bfloat16):
            heard = self.encode(mel, lessons.offsets)
            asked = {"use_cache": False, "output_attentions": True}
            said = self.ear.model.decoder(lessons.tokens, encoder_hidden_states=heard, **asked)
            scores = self.ear.proj_out(said.last_hidden_state)
            spelt = self.spelling(heard)
        loss = F.cross_entropy(
            scores.float().flatten(0, 1), lessons.labels.flatten(), ignore_index=IGNORED, label_smoothing=SMOOTHING
        )
        return loss, by_sound(spelt.float(), lessons.sounds), by_time(said.cross_attentions, lessons.times)

    def encode(self, mel: Tensor, offsets: Tensor) -> Tensor:
        """The library's encoder for windows that are shorter than its own, and begin at any of its places."""
        encoder = self.ear.model.encoder
        heard = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        heard = heard + encoder.embed_positions.weight[offsets.unsqueeze(1) + torch.arange(heard.shape[1])]
        for layer in encoder.layers:
            heard = layer(heard, None)
        return encoder.layer_norm(heard)


def by_sound(spelt: Tensor, sounds: list[str]) -> Tensor:
    """CTC between what the encoder spells [B, T, letters + 1] and the sounds of each window."""
    rows = [i for i, letters in enumerate(sounds) if letters]
    if not rows:
        return 0 * spelt.sum()
    targets = [[LETTERS.index(letter) + 1 for letter in sounds[i] if letter in LETTERS] for i in rows]
    lengths = torch.tensor([len(letters) for letters in targets])
    flat = torch.tensor([letter for letters in targets for letter in letters])
    places = torch.full((len(rows),), spelt.shape[1])
    return F.ctc_loss(spelt[rows].log_softmax(-1).transpose(0, 1), flat, places, lengths, zero_infinity=True)


def by_time(attentions: tuple[Tensor, ...], times: Tensor) -> Tensor:
    """How much the guided heads of the decoder's layers ([B, heads, T, places] each) look elsewhere than where the next
    token is heard: left to themselves they take long to find out that text and sound run side by side."""
    rows = ~times.isnan()
    if not rows.any():
        return torch.zeros(())
    looks = torch.stack([heads[:, : networks.GUIDED].transpose(1, 2)[rows] for heads in attentions]).float()
    away = torch.arange(looks.shape[-1]) * networks.TICK - times[rows].unsqueeze(-1)
    return (looks * (1 - torch.exp(-0.5 * (away / NEAR).square())).unsqueeze(1)).sum(-1).mean()


def masked(mel: Tensor) -> Tensor:
    """Some moments and some bands of each window are lost (SpecAugment)."""
    count, bands, frames = mel.shape
    for axis, widest, times in ((frames, 16, 2), (bands, 10, 1)):
        for _ in range(times):
            start, width = torch.rand(2, count, 1) * torch.tensor([axis, widest]).reshape(2, 1, 1)
            along = torch.arange(axis)
            gap = (along >= start) & (along < start + width)
            mel = mel.masked_fill(gap.unsqueeze(1 if axis == frames else 2), -0.5)
    return mel


def learning_rate(step: int, done: float) -> float:
    """Up to the peak, along it, and down to nothing; `done` is the share of the run that is over."""
    return PEAK * min(1.0, (step + 1) / WARM, max(0.0, 1 - done) / COOL)


def train(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(max(1, args.threads // args.processes))
    meeting = f"file://{(args.work / 'meeting-point').absolute()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=args.processes)
    torch.manual_seed(args.seed)  # all start from the same weights
    processor = WhisperProcessor.from_pretrained(args.work / "processor")
    learner = Learner(networks.make_model(processor.tokenizer))
    average = copy.deepcopy(learner.ear)
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, PEAK, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    held = {"learner": learner, "average": average, "optimiser": optimiser}
    path, step, spent = args.work / "ear.pt", 0, 0.0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        step, spent = saved["step"], saved["spent"]
        for name, part in held.items():
            part.load_state_dict(saved[name])
    spoken, seed = corpus.Corpus(args.work / "corpus"), args.seed + 31 * step
    teachers = [Teacher(spoken, processor.tokenizer, size, seed, rank, args.processes) for size in BATCH.values()]
    sentences, several = teachers[0].sentences(SENTENCES), teachers[1].sentences(SEVERAL)
    windows = teachers[2].windows()
    torch.manual_seed(args.seed + step + 104_729 * rank)
    limit, began, checked, losses = 60 * args.minutes, time.monotonic() - spent, spent, []
    while spent < limit:
        done = spent / limit
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, done)
        for teacher in teachers:
            teacher.hardness = min(1.0, done / HARD_FROM)
        source = sentences if done < WINDOWS_FROM else (sentences, several, windows)[step % 3]
        by_text, by_sound, by_time = learner(next(source))
        (by_text + BY_SOUND * by_sound + BY_TIME * by_time).backward()
        spent = share(trained, time.monotonic() - began)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        blend(average, learner.ear, min(0.999, (step + 1) / (step + 10)))
        step += 1
        losses.append((by_text.item(), by_sound.item(), by_time.item()))
        if rank == 0 and step % REPORT == 0:
            parts = ", ".join(f"{statistics.mean(column):.3f}" for column in zip(*losses[-REPORT:], strict=True))
            print(f"{spent / 60:6.2f} min {step:6} steps, losses by text, sound, time: {parts}", flush=True)
        if rank == 0 and (spent - checked > CHECK or spent >= limit):
            checked = spent
            states = {name: part.state_dict() for name, part in held.items()}
            torch.save({"step": step, "spent": spent, **states}, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
            rates = [f"{score.rate(processor, average, kind, 30)} % in {kind}" for kind in CHECKED]
            print(f"{spent / 60:6.2f} min {step:6} steps, words wrong: {', '.join(rates)}", flush=True)
    if rank == 0:
        export(args.out, processor, average)
    dist.destroy_process_group()


def share(trained: list[nn.Parameter], clock: float) -> float:
    """Average the gradients over the processes; the first one's clock counts for all."""
    parts = [p.grad for p in trained if p.grad is not None]
    flat = torch.cat([torch.tensor([clock if dist.get_rank() == 0 else 0.0]), *(part.reshape(-1) for part in parts)])
    dist.all_reduce(flat)
    for part, mean in zip(parts, flat[1:].split([part.numel() for part in parts]), strict=True):
        part.copy_(mean.reshape(part.shape) / dist.get_world_size())
    return float(flat[0])


@torch.no_grad()
def blend(average: nn.Module, current: nn.Module, keep: float) -> None:
    """average ← keep · average + (1 - keep) · current."""
    torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - keep)


CARD: dict[str, Any] = {
    "title": "House ear",
    "description": "A small Whisper trained from scratch on everyday English sentences spoken by eSpeak NG.",
    "task": "automatic-speech-recognition",
    "languages": ["en"],
    "vocabulary": len(vocabulary()),
    "license": "MIT",
    "trained_on": "sentences of workers/speech/house/language.py in the voices of workers/speech/house/corpus.py",
}


def export(folder: Path, processor: WhisperProcessor, ear: WhisperForConditionalGeneration) -> None:
    """Write the folder that `WhisperForConditionalGeneration.from_pretrained` reads (fp16 safetensors)."""
    processor.save_pretrained(folder)
    copy.deepcopy(ear).half().save_pretrained(folder)
    (folder / "atelier.json").write_text(json.dumps(CARD, indent=2) + "\n")
    print("bytes", sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="time for the training, earlier runs included")
    parser.add_argument("--work", type=Path, default=Path("out/ear"), help="the corpus and the checkpoint")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="share each batch among so many: quicker than threads")
    args = parser.parse_args()

    corpus.make(args.work / "corpus", PARTS, args.processes)
    if not (args.work / "processor").exists():
        rng = random.Random(args.seed)
        texts = (sentence(rng) for _ in range(20_000))
        networks.make_processor(networks.make_tokenizer(texts)).save_pretrained(args.work / "processor")
    (args.work / "meeting-point").unlink(missing_ok=True)
    torch.multiprocessing.spawn(train, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
