"""Trains the house model from nothing: `make house-avatar-train`, about two and a half hours on two cores.

Four stages, each of which goes on where it was stopped (checkpoints in --folder):

    mapping  the mapping network is set to a code of the head's parameters
    field    planes and decoder learn distance and colour at points of random heads: no rendering, so it is cheap;
             planes of 16 × 16 first, then finer ones, since which head belongs to a latent is learnt as well by those
    views    everything learns patches of true renders, at two scales, through rays and super-resolution, and goes on
             with the colours of the face's points, since a patch seldom shows lips and lashes
    export   weights as fp16, with the average w

A loader process draws the truth while this process learns.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from workers.avatar.aetherist import checkpoints
from workers.avatar.aetherist.cameras import CameraConfig
from workers.avatar.aetherist.config import AetheristConfig
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.networks.layers import GAIN
from workers.avatar.aetherist.networks.mapping import LR_MULTIPLIER
from workers.avatar.aetherist.networks.rays import sample_rays
from workers.avatar.house import heads

WEIGHTS = Path(__file__).parent / "weights" / "heads"
CONFIG = AetheristConfig(
    triplane_dim=96, triplane_res=128, neural_renderer_layers=2, coarse_samples=16, importance_samples=16
)
POINTS, FIELD_BATCH = 2048, 8
MATRIX = re.compile(r"(convs\.\d+|to_planes|layers\.\d+)\.weight$")
QUICK = 4.0  # the rate of constants, each place of which few points see, and of the super-resolution, which starts late
FINER = [f"blocks.{n}.to_planes.weight" for n in (3, 4, 5)]  # begin with no share in the planes
GROWTH = (0.0, 0.24, 0.4, 0.6)  # shares of the field's stage at which planes of 16, 32, 64 and 128 begin
PATCH, VIEW_BATCH = 32, 3  # rays a side, heads
DETAILS = 1536  # points of the face whose colour is learnt beside a patch
MARGIN = 6  # pixels at a patch's border that its neighbours would have helped with
FACE = torch.tensor([[0.0, -0.15, 0.45], [0.40, 0.40, 0.25]])  # centre and half sides
MOUTH, EYE = torch.tensor([[[0.0, -0.35, 0.45], [0.22, 0.10, 0.20]], [[0.19, 0.04, 0.45], [0.14, 0.12, 0.20]]])
SURFACE = 0.004  # how sharp the surface is (β) when it is first looked at
REACH = 0.2  # beyond this distance from the surface only the sign matters


class Fields(IterableDataset[dict[str, Tensor]]):
    """Endless batches of latents with points, half of them near the surface, and what is there."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = _generator()
        while True:
            latents = torch.randn(FIELD_BATCH, heads.LATENT_DIM, generator=generator)
            head = heads.Heads(heads.parameters(latents))
            points = torch.rand(FIELD_BATCH, POINTS, 3, generator=generator) * 2 - 1
            near = points[:, : POINTS * 3 // 4] * 0.9
            near = torch.cat([_in_the_face(near[:, : POINTS * 3 // 8]), near[:, POINTS * 3 // 8 :]], 1)
            near = _to_the_surface(head, near)
            near = near + 0.03 * torch.randn(near.shape, generator=generator)
            points = torch.cat([near, points[:, POINTS * 3 // 4 :]], 1).clamp(-1, 1)
            distance = head.distance(points)
            close = points[:, : POINTS * 3 // 4]
            yield {"latents": latents, "points": points, "distance": distance, "colour": head.colour(close)}


class Patches(IterableDataset[dict[str, Tensor]]):
    """Endless batches of latents, rays of a patch, and the true picture of that patch at four times the rays."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = _generator()
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        while True:
            latents = torch.randn(VIEW_BATCH, heads.LATENT_DIM, generator=generator)
            params = heads.parameters(latents)
            cameras = CameraConfig.create_random(VIEW_BATCH, (2.2, 3.0), (-0.45, 0.5))
            front = torch.rand(VIEW_BATCH) < 0.4  # faces have the details
            frontal = _front_cameras(VIEW_BATCH)
            cameras = torch.where(front[:, None], frontal, cameras)
            grid = 64 if torch.rand(()) < 0.45 else 128
            origins, directions = sample_rays(cameras, grid)
            fine_origins, fine_directions = sample_rays(cameras, grid * 4)
            span = grid - PATCH
            y, x = (int(torch.randint(span // 8, span - span // 8 + 1, (1,))) for _ in range(2))
            if torch.rand(()) < 0.4:  # on the face
                y, x = span // 2 + int(torch.randint(-4, 13, (1,))), span // 2 + int(torch.randint(-8, 9, (1,)))
            rows = (torch.arange(y, y + PATCH)[:, None] * grid + torch.arange(x, x + PATCH)).flatten()
            fine = torch.arange(4 * y, 4 * (y + PATCH))[:, None] * grid * 4 + torch.arange(4 * x, 4 * (x + PATCH))
            o, d = fine_origins[:, fine.flatten()], fine_directions[:, fine.flatten()]
            colour, mask, _ = heads.draw(params, o, d)
            head = heads.Heads(params)
            points = _to_the_surface(head, _in_the_face(torch.rand(VIEW_BATCH, DETAILS, 3) * 2 - 1))
            side = 4 * PATCH
            picture = colour.reshape(-1, side, side, 3).permute(0, 3, 1, 2) * 2 - 1
            yield {
                "latents": latents,
                "origins": origins[:, rows],
                "directions": directions[:, rows],
                "picture": picture,
                "mask": F.avg_pool2d(mask.float().reshape(-1, 1, side, side), 4),
                "points": points,
                "colour": head.colour(points),
            }


def _to_the_surface(head: heads.Heads, points: Tensor) -> Tensor:
    for _ in range(3):
        points = points - head.distance(points)[..., None] * head.normals(points)
    return points


def _in_the_face(points: Tensor) -> Tensor:
    """Points [N, 4 n, 3] in [-1, 1] → a quarter around the face, half around the mouth, a quarter around the eyes.

    The face has the details, and what tells a woman from a man is on a few hundredths of it: lips and lashes.
    """
    anywhere, mouth, eye = points.tensor_split((points.shape[1] // 4, points.shape[1] * 3 // 4), 1)
    eye = eye * EYE[1] + EYE[0]
    eye[:, ::2, 0] *= -1  # every other one is the right eye's
    return torch.cat([anywhere * FACE[1] + FACE[0], mouth * MOUTH[1] + MOUTH[0], eye], 1)


def _front_cameras(count: int) -> Tensor:
    from workers.avatar.aetherist.cameras import camera_from_angles

    azimuth, elevation = torch.randn(count) * 0.5, torch.randn(count) * 0.15
    return camera_from_angles(azimuth, elevation, 2.2 + 0.6 * torch.rand(count))


def _generator() -> torch.Generator:
    torch.set_num_threads(1)
    worker = get_worker_info()
    return torch.Generator().manual_seed(worker.seed % 2**31 if worker else 0)


@torch.no_grad()
def set_mapping(generator: AetheristGenerator) -> None:
    """Stage 1: w becomes a fixed random code of the head's parameters, so that it varies with nothing else.

    Which numbers of z a head depends on is our own choice (`heads.latent_map`), so there is nothing to be learnt: the
    first layer reads each parameter with both signs, the second subtracts them (which undoes the leaky ReLU) and codes.
    A mapping network that was left to itself kept all 512 numbers, and the styles drowned in them.
    """
    rows = heads.latent_map()
    count = len(rows)
    code = torch.randn(CONFIG.latent_dim, count, generator=torch.Generator().manual_seed(1)) / count**0.5
    first, second = (torch.zeros(CONFIG.latent_dim, CONFIG.latent_dim) for _ in range(2))
    first[:count], first[count : 2 * count] = rows, -rows
    second[:, :count], second[:, count : 2 * count] = code, -code
    scale = CONFIG.latent_dim**0.5 / LR_MULTIPLIER
    values = {name: torch.zeros_like(value) for name, value in generator.mapping.layers.state_dict().items()}
    values |= {"0.weight": first * scale, "1.weight": second * scale / (1.2 * GAIN)}
    generator.mapping.layers.load_state_dict(values)
    generator.mapping.w_avg.copy_(generator.mapping(torch.randn(20_000, CONFIG.latent_dim)).mean(0))


def train_field(generator: AetheristGenerator, seconds: float, state: dict[str, Any]) -> None:
    """Stage 2."""
    if "field" not in state:
        for name, weight in list(generator.synthesis.named_parameters()):
            if name in FINER:
                nn.init.zeros_(weight)
    parameters = [*generator.synthesis.parameters(), *generator.renderer.decoder.layers.parameters()]
    _loop(generator, Fields(), _field_loss, parameters, seconds, 2.5e-3, state, "field")


def train_views(generator: AetheristGenerator, seconds: float, state: dict[str, Any]) -> None:
    """Stage 3."""
    if "views" not in state:
        nn.init.constant_(generator.renderer.decoder.log_beta, math.log(SURFACE))
        for name, weight in generator.super_resolution.named_parameters():
            if name.endswith("to_rgb.weight"):
                nn.init.zeros_(weight)  # it begins as an enlargement
    parameters = [p for name, p in generator.named_parameters() if not name.startswith("mapping")]
    _loop(generator, Patches(), _view_loss, parameters, seconds, 3e-4, state, "views")


def _field_loss(generator: AetheristGenerator, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
    skipped = sum(progress < start for start in GROWTH)
    planes = generator.synthesis(generator.mapping(batch["latents"]), skipped)
    colour, distance = generator.field(planes, batch["points"])
    true = batch["distance"]
    close = batch["colour"].shape[1]
    error = (distance.clamp(-REACH, REACH) - true.clamp(-REACH, REACH)).abs()
    weight = 1 + 3 * torch.exp(-(true / 0.04).square())
    near = torch.exp(-(true[:, :close] / 0.02).square())
    tint = _tint(colour[:, :close], batch["colour"])
    return {"distance": 10 * (error * weight).mean(), "colour": (tint * near).sum() / near.sum()}


def _tint(colour: Tensor, true: Tensor) -> Tensor:
    """How wrong colours [N, P, 3] are, [N, P]: squares for what most heads lack at a place, as eyes and teeth."""
    wrong = colour - (true * 2 - 1)
    return (wrong.abs() + 4 * wrong.square()).mean(-1)


def _view_loss(generator: AetheristGenerator, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
    planes = generator.planes(batch["latents"])
    rendering = generator.renderer(planes, batch["origins"], batch["directions"])
    grid = rendering.features.transpose(1, 2).unflatten(2, (PATCH, PATCH))
    picture = generator.super_resolution(grid.to(planes), "const")
    true = batch["picture"]
    coarse = F.avg_pool2d(true, 4)
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    difference = (picture.float() - true)[inner]
    opacity = rendering.opacity.unflatten(1, (PATCH, PATCH))[:, None]
    colour, _ = generator.field(planes, batch["points"])
    return {
        "picture": difference.abs().mean() + 2 * difference.square().mean(),
        "edges": sum((torch.diff(difference, dim=axis).abs().mean() for axis in (-1, -2)), torch.zeros(())),
        "raw": 0.5 * (grid[:, :3] - coarse).abs().mean(),
        "mask": 0.5 * (opacity - batch["mask"]).abs().mean(),
        "details": _tint(colour, batch["colour"]).mean(),
    }


def _loop(
    generator: AetheristGenerator,
    data: Any,
    losses_of: Any,
    parameters: Sequence[nn.Parameter],
    seconds: float,
    rate: float,
    state: dict[str, Any],
    stage: str,
) -> None:
    """Learn for so many seconds with a rate that falls along a cosine, and keep a moving average of the weights.

    Matrices learn by Muon (Jordan 2024), which came further than Adam in the same time; all else by Adam.
    """
    names = {p: name for name, p in generator.named_parameters()}
    quick = [p for p in parameters if names[p].endswith(".constant") or names[p].startswith("super_resolution")]
    matrices = [p for p in parameters if MATRIX.search(names[p])]
    flat = [nn.Parameter(_as_matrix(p.detach())) for p in matrices]  # the same memory
    others = [p for p in parameters if p not in {*quick, *matrices}]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": quick, "speed": QUICK}]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(flat, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99)),
    ]
    average = {name: value.clone() for name, value in generator.state_dict().items()}
    spent = state.setdefault(stage, {"seconds": 0.0, "steps": 0})
    loader = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))
    bar = tqdm(total=round(seconds), initial=round(spent["seconds"]), desc=stage, unit="s")
    means: dict[str, float] = {}
    began = saved = time.monotonic()
    while spent["seconds"] < seconds:
        progress = spent["seconds"] / seconds
        warm = min(1.0, (spent["steps"] + 1) / 100)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
            group["lr"] = group.get("speed", 1.0) * rate * warm * falling
        batch = next(loader)
        with torch.autocast("cpu", torch.bfloat16):
            losses = losses_of(generator, batch, progress)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        generator.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for matrix, weight in zip(flat, matrices, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad)
        for optimizer in optimizers:
            optimizer.step()
        decay = min(0.998, 1 - 1 / (spent["steps"] + 2))
        with torch.no_grad():
            for name, value in generator.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        spent["steps"] += 1
        now = time.monotonic()
        spent["seconds"] += now - began
        bar.update(round(spent["seconds"]) - bar.n)
        began = now
        for name, loss in losses.items():
            means[name] = 0.98 * means.get(name, loss.item()) + 0.02 * loss.item()
        bar.set_postfix({"steps": spent["steps"]} | {name: f"{value:.4f}" for name, value in means.items()})
        if now - saved > 120:
            _save(generator, average, state, {stage: means})
            saved = now
    generator.load_state_dict(average)
    _save(generator, average, state, {stage: means})


def _as_matrix(weight: Tensor) -> Tensor:
    """[out, in, …] → [out, in · …]; a view of weights whose channels lie last."""
    return weight.movedim(1, -1).flatten(1)


def _save(generator: AetheristGenerator, average: dict[str, Tensor], state: dict[str, Any], means: Any) -> None:
    folder = state["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.save_network(generator, folder / "generator.safetensors.new")
    (folder / "generator.safetensors.new").replace(folder / "generator.safetensors")
    smooth = AetheristGenerator(CONFIG)
    smooth.load_state_dict(average)
    checkpoints.save_generator(smooth, folder / "average")
    told = {name: value for name, value in state.items() if name != "folder"} | {"losses": means}
    (folder / "state.json").write_text(json.dumps(told, indent=2))


def export(generator: AetheristGenerator) -> None:
    """Stage 4."""
    checkpoints.save_generator(generator, WEIGHTS, torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", default=["mapping", "field", "views", "export"])
    parser.add_argument("--folder", type=Path, default=Path("house-avatar-training"))
    parser.add_argument("--field-seconds", type=float, default=5400)
    parser.add_argument("--views-seconds", type=float, default=2700)
    args = parser.parse_args()
    torch.manual_seed(0)
    heads.compile_fields()
    generator = AetheristGenerator(CONFIG).train()
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the annotation lacks it
    state: dict[str, Any] = {"folder": args.folder}
    if (args.folder / "state.json").exists():
        told = json.loads((args.folder / "state.json").read_text())
        state |= {name: value for name, value in told.items() if name != "losses"}
        checkpoints.load_network(generator, args.folder / "average" / "generator.safetensors")
        torch.manual_seed(sum(told[stage]["steps"] for stage in ("field", "views") if stage in told))  # other heads
    if "mapping" in args.stages and "field" not in state:
        set_mapping(generator)
    if "field" in args.stages:
        train_field(generator, args.field_seconds, state)
    if "views" in args.stages:
        train_views(generator, args.views_seconds, state)
    if "export" in args.stages:
        export(generator)


if __name__ == "__main__":
    main()
