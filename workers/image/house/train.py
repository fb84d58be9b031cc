"""Trains the house model from nothing: `python -m workers.image.house.train [stage …] --minutes 120 --work FOLDER`.

Stages, each resuming from its checkpoint in the work folder: `data` (captions and latents), `unet` (denoiser and text
encoder), `decoder`, `encoder`, `export`, `lora`, `sheets`. Without a stage all of them run in that order.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from workers.image.catalog import LORA_FILE
from workers.image.house import networks
from workers.image.house.drawing import draw, sample

WEIGHTS = Path(__file__).parent / "weights"
STAGES = ("data", "unet", "decoder", "encoder", "export", "lora", "sheets")
GRIDS = {"16x16": (16, 16), "8x8": (8, 8), "16x24": (16, 24), "24x16": (24, 16)}  # h, w of the latents
PICTURES = {"data": 160_000, "sketch": 24_000}
SHARES = {"data": (0.42, 0.42, 0.08, 0.08), "sketch": (0.76, 0.08, 0.08, 0.08)}  # of the grids, in pictures and batches
PER_JOB = 250
BATCH = {"unet": 32, "decoder": 8, "encoder": 8, "lora": 32}
STEPS = {"unet": 16_000, "decoder": 4_000, "encoder": 1_500, "lora": 6_000}
PEAK = {"unet": 1.6e-3, "decoder": 1.5e-3, "encoder": 1.5e-3, "lora": 5e-3}
LORA_RANK = 32
MEETING_POINT = "meeting-point"  # a file by which the processes of a run find each other
NOISIER = 0.6  # share of steps drawn from the noisier half only
DROPPED = 0.1  # share of captions replaced by the empty one, for classifier-free guidance


def learning_rate(step: int, done: float, peak: float, warm: int = 200) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak; `done` is the share of the run that is over."""
    return peak * min(1.0, (step + 1) / warm) * (0.49 * (1 + math.cos(math.pi * min(1.0, done))) + 0.02)


class Run:
    """A training loop with a progress bar that ends after its steps or minutes, and goes on where it stopped.

    The learning rate follows whichever of both is nearer its end, so a run cut by time still cools down.
    """

    def __init__(
        self, stage: str, args: argparse.Namespace, modules: dict[str, nn.Module], trained: list[nn.Parameter]
    ):
        self.path = args.work / f"{stage}.pt"
        self.stage, self.total, self.modules, self.trained = stage, STEPS[stage], modules, trained
        self.limit = args.minutes * 60
        self.optimiser = torch.optim.AdamW(trained, PEAK[stage], weight_decay=0.01, betas=(0.9, 0.99), fused=True)
        self.step, self.spent, self.clock, self.loss = 0, 0.0, 0.0, float("nan")
        if self.path.exists():
            self._load()

    def __iter__(self) -> Iterator[int]:
        quiet = dist.is_initialized() and dist.get_rank() > 0
        bar = tqdm(total=self.total, initial=self.step, desc=self.stage, mininterval=10, disable=quiet)
        before, began = self.spent, time.monotonic()
        while self.step < self.total and self.spent < self.limit:
            done = max(self.step / self.total, self.spent / self.limit)
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self.step, done, PEAK[self.stage])
            self.clock = before + time.monotonic() - began
            yield self.step
            self.step += 1
            self.spent = self.clock
            bar.set_postfix(loss=f"{self.loss:.4f}", refresh=False)
            bar.update()
            if self.step % 500 == 0:
                self.save()
        bar.close()
        self.save()
        if not quiet:
            print(f"{self.stage}: {self.step} steps, {self.spent / 60:.1f} min, loss {self.loss:.4f}", flush=True)

    def update(self, loss: Tensor) -> None:
        """One optimiser step; `loss` is averaged for the progress bar."""
        loss.backward()
        self._share()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        value = loss.item()
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def _share(self) -> None:
        """With several processes: average the gradients, and let the first one's clock count for all."""
        if not dist.is_initialized():
            return
        parts = [p.grad for p in self.trained if p.grad is not None]
        clock = torch.tensor([self.clock if dist.get_rank() == 0 else 0.0])
        flat = torch.cat([clock, *(part.reshape(-1) for part in parts)])
        dist.all_reduce(flat)
        self.clock = float(flat[0])
        for part, shared in zip(parts, flat[1:].split([part.numel() for part in parts]), strict=True):
            part.copy_(shared.reshape(part.shape) / dist.get_world_size())

    def save(self) -> None:
        if dist.is_initialized() and dist.get_rank() > 0:
            return
        state = {name: module.state_dict() for name, module in self.modules.items()}
        held = {"step": self.step, "spent": self.spent, "optimiser": self.optimiser.state_dict(), **state}
        torch.save(held, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)

    def _load(self) -> None:
        held = torch.load(self.path, weights_only=True)
        self.step, self.spent = held["step"], held["spent"]
        self.optimiser.load_state_dict(held["optimiser"])
        for name, module in self.modules.items():
            module.load_state_dict(held[name])


def as_tensor(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures of one size → [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1


def _thumbnails(job: tuple[int, int, int, int, bool]) -> tuple[list[str], np.ndarray]:
    """Draws `count` scenes on an h×w grid; captions and uint8 thumbnails [count, 2h, 2w, 3]."""
    seed, count, h, w, sketch = job
    rng = random.Random(seed)
    scenes = [sample(rng, aspect=w / h) for _ in range(count)]
    size, small = (w * 2 * 10, h * 2 * 10), (w * 2, h * 2)
    drawn = [np.asarray(draw(s, *size, rng, sketch=sketch).resize(small, Image.Resampling.BOX)) for s in scenes]
    return [scene.caption for scene in scenes], np.stack(drawn)


def make_data(args: argparse.Namespace, name: str = "data") -> None:
    """Draw the training pictures once, as thumbnails (all that the denoiser needs), with their token ids."""
    path = args.work / f"{name}.pt"
    if path.exists():
        return
    jobs: list[tuple[str, tuple[int, int, int, int, bool]]] = []
    sketch = name == "sketch"
    for (grid, (h, w)), share in zip(GRIDS.items(), SHARES[name], strict=True):
        for _ in range(int(PICTURES[name] * share) // PER_JOB):
            jobs.append((grid, (args.seed * 1_000_003 + 2 * len(jobs) + sketch, PER_JOB, h, w, sketch)))
    with multiprocessing.Pool(2) as pool:
        parts = list(tqdm(pool.imap(_thumbnails, [job for _, job in jobs]), total=len(jobs), desc=name))
    tokens = args.work / "tokenizer"
    if not tokens.exists():
        networks.make_tokenizer(c for captions, _ in parts for c in captions).save_pretrained(tokens)
    tokenizer = CLIPTokenizer.from_pretrained(tokens)
    data: dict[str, Any] = {}
    for grid in GRIDS:
        chosen = [part for (g, _), part in zip(jobs, parts, strict=True) if g == grid]
        ids = tokenizer(
            [c for captions, _ in chosen for c in captions], padding="max_length", truncation=True, max_length=77
        )
        data[grid] = {
            "thumbnails": torch.from_numpy(np.concatenate([t for _, t in chosen])).permute(0, 3, 1, 2).contiguous(),
            "ids": torch.tensor(ids.input_ids, dtype=torch.int16),
        }
    data["blank"] = torch.tensor(tokenizer("", padding="max_length", max_length=77).input_ids)
    torch.save(data, path)


def batches(
    args: argparse.Namespace, name: str, size: int, seed: int, rank: int
) -> Callable[[], tuple[Tensor, Tensor]]:
    """A function that draws a batch of one grid: scaled latents [B, 12, h, w] and token ids [B, 77].

    All ranks draw the same grids (none waits for a larger one) but different pictures.
    """
    data = torch.load(args.work / f"{name}.pt", weights_only=True)
    shares = torch.tensor(SHARES[name])
    grids, generator = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 7919 * (rank + 1))

    def next_batch() -> tuple[Tensor, Tensor]:
        grid = list(GRIDS)[int(torch.multinomial(shares, 1, generator=grids))]
        part = data[grid]
        # Small pictures are cheap, so a batch takes more of them: they teach the words for less.
        several = size * max(1, 256 // (part["thumbnails"].shape[-1] * part["thumbnails"].shape[-2] // 4))
        chosen = torch.randint(0, len(part["ids"]), (several,), generator=generator)
        ids = part["ids"][chosen].long()
        ids[torch.rand(several, generator=generator) < DROPPED] = data["blank"]
        return networks.fold(part["thumbnails"][chosen].float() / 127.5 - 1) * networks.SCALE, ids

    return next_batch


def diffusion_loss(unet: nn.Module, text: nn.Module, scheduler: object, latents: Tensor, ids: Tensor) -> Tensor:
    """Mean squared error of the predicted velocity, more often at noisy steps: there the caption decides."""
    noise = torch.randn_like(latents)
    steps = torch.randint(0, 1000, (len(latents),))
    steps = torch.where(torch.rand(len(latents)) < NOISIER, 500 + steps // 2, steps)
    noisy = scheduler.add_noise(latents, noise, steps)  # type: ignore[attr-defined]
    target = scheduler.get_velocity(latents, noise, steps)  # type: ignore[attr-defined]
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, steps, text(ids).last_hidden_state).sample
    return F.mse_loss(predicted.float(), target)


def train_together(train: Callable[[int, argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run `train` in processes that share each batch: on a CPU quicker than threads."""
    (args.work / MEETING_POINT).unlink(missing_ok=True)
    torch.multiprocessing.spawn(_member, (train, args), nprocs=args.processes)


def _member(rank: int, train: Callable[[int, argparse.Namespace], None], args: argparse.Namespace) -> None:
    torch.set_num_threads(max(1, args.threads // args.processes))
    store = f"file://{(args.work / MEETING_POINT).absolute()}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=args.processes)
    torch.manual_seed(args.seed)  # all start from the same weights
    train(rank, args)
    dist.destroy_process_group()


def train_unet(args: argparse.Namespace) -> None:
    """Denoiser and text encoder, with an exponential moving average of both."""
    train_together(_train_unet, args)


def _train_unet(rank: int, args: argparse.Namespace) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(args.work / "tokenizer")
    pair = nn.ModuleList([networks.make_unet(), networks.make_text_encoder(tokenizer)])
    pair[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(pair)
    run = Run("unet", args, {"pair": pair, "average": average}, list(pair.parameters()))
    scheduler = networks.make_scheduler()
    next_batch = batches(args, "data", BATCH["unet"] // args.processes, args.seed + run.step, rank)
    torch.manual_seed(args.seed + run.step + 104_729 * rank)
    for step in run:
        run.update(diffusion_loss(pair[0], pair[1], scheduler, *next_batch()))
        blend(average, pair, min(0.999, (step + 1) / (step + 10)))


@torch.no_grad()
def blend(average: nn.Module, current: nn.Module, keep: float) -> None:
    """average ← keep · average + (1 - keep) · current."""
    torch._foreach_lerp_(list(average.parameters()), list(current.parameters()), 1 - keep)


def _patch(rng: random.Random) -> Image.Image:
    """A 256×256 picture, or a 256×256 crop (on the 32-pixel grid) of a 512×512 one."""
    scene, sketch = sample(rng), rng.random() < 0.25
    if rng.random() < 0.35:
        return draw(scene, 512, 512, rng, sketch=sketch).resize((256, 256), Image.Resampling.BOX)
    drawn = draw(scene, 1024, 1024, rng, sketch=sketch)
    x, y = (64 * rng.randint(0, 8) for _ in "xy")
    return drawn.crop((x, y, x + 512, y + 512)).resize((256, 256), Image.Resampling.BOX)


def _patches(seed: int) -> np.ndarray:
    rng = random.Random(seed)
    return np.stack([np.asarray(_patch(rng)) for _ in range(8)])


def train_decoder(args: argparse.Namespace) -> None:
    """Pictures from (slightly disturbed) mean colours: the disturbance stands for the denoiser's errors."""
    vae = networks.make_vae()
    parts = nn.ModuleList([vae.decoder, vae.post_quant_conv])
    run = Run("decoder", args, {"decoder": parts}, list(parts.parameters()))
    torch.manual_seed(args.seed + run.step)
    with multiprocessing.Pool(1) as pool:
        stream = _prefetched(pool, run.step)
        for _ in run:
            pictures = torch.from_numpy(next(stream)).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents = networks.latents_of(pictures)
            latents = latents + torch.randn_like(latents) * 0.12 * torch.rand(len(latents), 1, 1, 1) ** 2
            with torch.autocast("cpu", torch.bfloat16):
                drawn = vae.decoder(vae.post_quant_conv(latents)).float()
            run.update(picture_loss(drawn, pictures))


def _prefetched(pool: multiprocessing.pool.Pool, start: int, ahead: int = 8) -> Iterator[np.ndarray]:
    waiting = [pool.apply_async(_patches, (start + i,)) for i in range(ahead)]
    for seed in range(start + ahead, 10**9):
        yield waiting.pop(0).get()
        waiting.append(pool.apply_async(_patches, (seed,)))


def picture_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Absolute and squared differences of colours, and absolute ones of edges."""
    off = drawn - wanted
    edges = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    return off.abs().mean() + off.square().mean() + edges


def train_encoder(args: argparse.Namespace) -> None:
    """Teach the encoder the latents that everything else is built on (used for picture-to-picture)."""
    vae = networks.make_vae()
    parts = nn.ModuleList([vae.encoder, vae.quant_conv])
    run = Run("encoder", args, {"encoder": parts}, list(parts.parameters()))
    with multiprocessing.Pool(1) as pool:
        stream = _prefetched(pool, 5_000_000 + run.step)
        for _ in run:
            pictures = torch.from_numpy(next(stream)).permute(0, 3, 1, 2).float() / 127.5 - 1
            with torch.autocast("cpu", torch.bfloat16):
                mean, spread = vae.quant_conv(vae.encoder(pictures)).float().chunk(2, dim=1)
            run.update(
                F.smooth_l1_loss(mean, networks.latents_of(pictures), beta=0.1) + 1e-3 * (spread + 10).square().mean()
            )


def assemble(args: argparse.Namespace) -> StableDiffusionPipeline:
    """The pipeline from the newest checkpoints."""
    tokenizer = CLIPTokenizer.from_pretrained(args.work / "tokenizer")
    pair = nn.ModuleList([networks.make_unet(), networks.make_text_encoder(tokenizer)])
    pair.load_state_dict(torch.load(args.work / "unet.pt", weights_only=True)["average"])
    return StableDiffusionPipeline(
        vae=_vae(args.work),
        text_encoder=pair[1],
        tokenizer=tokenizer,
        unet=pair[0],
        scheduler=networks.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _vae(work: Path) -> AutoencoderKL:
    vae = networks.make_vae()
    halves = {"decoder": [vae.decoder, vae.post_quant_conv], "encoder": [vae.encoder, vae.quant_conv]}
    for name, parts in halves.items():
        nn.ModuleList(parts).load_state_dict(torch.load(work / f"{name}.pt", weights_only=True)[name])
    return vae.eval()


CARD = {
    "title": "House shapes",
    "description": "A small Stable Diffusion trained from scratch on drawings of coloured shapes and their captions.",
    "guidance_rescale": 0.7,
    "default_size": [512, 512],
    "license": "MIT",
    "trained_on": "pictures drawn by workers/image/house/drawing.py",
}


def export(args: argparse.Namespace) -> None:
    """Write the folder that `StableDiffusionPipeline.from_pretrained` reads (fp16 safetensors)."""
    folder = args.out / "shapes"
    assemble(args).to(torch.float16).save_pretrained(folder)
    (folder / "atelier.json").write_text(json.dumps(CARD, indent=2) + "\n")
    print("bytes", sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))


def train_lora(args: argparse.Namespace) -> None:
    """The sketch style: the same scenes as outlines, learnt by low-rank additions to the denoiser's layers."""
    make_data(args, "sketch")
    train_together(_train_lora, args)


def _train_lora(rank: int, args: argparse.Namespace) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(args.out / "shapes", dtype=torch.float32)
    pipe.unet.requires_grad_(False)
    layers = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv"]
    pipe.unet.add_adapter(LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=layers))
    trained = [p for p in pipe.unet.parameters() if p.requires_grad]
    adapters = nn.ParameterList(trained)
    run = Run("lora", args, {"adapters": adapters}, trained)
    next_batch = batches(args, "sketch", BATCH["lora"] // args.processes, args.seed + run.step, rank)
    torch.manual_seed(args.seed + run.step + 104_729 * rank)
    for _ in run:
        run.update(diffusion_loss(pipe.unet, pipe.text_encoder, pipe.scheduler, *next_batch()))
    if rank > 0:
        return
    state = {key: value.half().contiguous() for key, value in get_peft_model_state_dict(pipe.unet).items()}
    StableDiffusionPipeline.save_lora_weights(args.out / "sketch-lora", unet_lora_layers=state)


def make_sheets(args: argparse.Namespace) -> None:
    """Contact sheets of held-out prompts, without and with the LoRA."""
    from workers.image.house.score import contact_sheet, held_out_prompts, load, pictures

    pipe = load(args.out / "shapes")
    captions = [prompt.caption for prompt in held_out_prompts(24, args.seed)]
    for name, count in (("contact_sheet", 24), ("sketch_sheet", 12)):
        if name == "sketch_sheet":
            pipe.load_lora_weights(args.out / "sketch-lora", weight_name=LORA_FILE)
        made = pictures(pipe, captions[:count], range(count), 512, 512)
        sheet = contact_sheet(made, captions[:count]).quantize(256)
        sheet.save(Path(__file__).parent / f"{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], default=[])
    parser.add_argument(
        "--minutes", type=float, default=120, help="time for each training stage, earlier runs included"
    )
    parser.add_argument("--work", type=Path, default=Path("out/house"), help="checkpoints and drawn data")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="train the denoiser and the LoRA in so many processes")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    run = {"data": make_data, "unet": train_unet, "decoder": train_decoder, "encoder": train_encoder}
    run |= {"export": export, "lora": train_lora, "sheets": make_sheets}
    for stage in args.stages or STAGES:
        run[stage](args)


if __name__ == "__main__":
    main()
