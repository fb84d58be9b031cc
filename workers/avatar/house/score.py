"""How good the house model is, on heads it was never shown: `make house-avatar-score`, about a quarter of an hour.

Heads are told apart by `reader.py`, which has seen true renders only; all else is compared with the true renders of the
same latents and cameras. Latents, requests and cameras come from seeds that no training uses.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import get_context
from torch.nn import functional as F
from tqdm import tqdm

from workers.avatar.aetherist.attributes import StyleController
from workers.avatar.aetherist.cameras import CameraConfig, camera_from_angles, unpack_cameras
from workers.avatar.aetherist.checkpoints import GENERATOR
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.networks.rays import sample_rays
from workers.avatar.house import heads
from workers.avatar.house.reader import Reader
from workers.avatar.house.train import WEIGHTS

PSI = 0.8  # the service's default truncation
FIRST_SEED = 500_000
NEIGHBOUR = math.radians(10)  # between the two views of a depth warp
MOUTH = ((-0.24, 0.24), (-0.47, -0.24), 0.5)  # x, y and z, world units
EDITS = (("expression", "smile"), ("age", "elderly"), ("hair_color", "blonde"))
Task = tuple[str, int]


@lru_cache
def model() -> AetheristGenerator:
    """The shipped generator, on one thread."""
    torch.set_num_threads(1)
    return AetheristGenerator.from_pretrained(WEIGHTS).eval()


@lru_cache
def _controller() -> StyleController:
    return StyleController(model())


@lru_cache
def _reader() -> Reader:
    return Reader.load()


def _latent(number: int) -> Tensor:
    return torch.randn(1, heads.LATENT_DIM, generator=torch.Generator().manual_seed(FIRST_SEED + number))


def request(number: int) -> dict[str, str]:
    """A held-out style_config that asks for everything."""
    rng = random.Random(FIRST_SEED + number)
    asked = {name: rng.choice(classes) for name, classes in heads.CLASSES.items()}
    return asked | {"hair_color": rng.choice(list(heads.HAIR_COLOURS))}


def recognised(number: int) -> dict[str, Any]:
    """Which of a request's attributes the reader finds on the model's picture and, beside it, on the true head's."""
    asked = request(number)
    latent = _controller().encode_attributes(asked, seed=FIRST_SEED + number)
    camera = CameraConfig.create_front_view()
    made = model().view(model().planes(latent, PSI), camera).image
    true = _true_picture(heads.parameters(latent, PSI), camera, 256)
    readings = {"model": _reader().read(made).labels(), "true renders": _reader().read(true).labels()}
    return {who: {name: labels[name][0] == asked[name] for name in asked} for who, labels in readings.items()}


def psnr(number: int) -> dict[str, float]:
    """Decibels between a picture of the native resolution from a random camera and the true render."""
    side = model().config.resolution
    camera = CameraConfig.create_random(1, (2.2, 3.0), (-0.45, 0.5))
    made = model().view(model().planes(_latent(number)), camera).image.clamp(-1, 1)
    error = (made - _true_picture(heads.parameters(_latent(number)), camera, side)).square().mean()
    return {"dB": 10 * math.log10(4 / error.item())}


def silhouettes(number: int) -> dict[str, float]:
    """Intersection over union of opacity > 1/2 and the true mask, over 8 orbit views."""
    cameras, found = CameraConfig.create_orbit(num_views=8), []
    planes, params = model().planes(_latent(number)), heads.parameters(_latent(number))
    for camera in cameras:
        made = model().view(planes, camera[None]).opacity[0] > 0.5
        true = heads.draw_views(params, camera[None], len(made)).mask[0]
        found.append(((made & true).sum() / (made | true).sum()).item())
    return {"mean": statistics.mean(found), "worst": min(found)}


def depth_warp(number: int) -> dict[str, float]:
    """Mean difference (of 255) of a view and its neighbour, warped by depth, where both see the same place."""
    cameras = camera_from_angles(torch.tensor([0.0, NEIGHBOUR]), torch.zeros(2), torch.tensor(2.5))
    planes = model().planes(_latent(number))
    views = [model().view(planes, camera[None]) for camera in cameras]
    side = views[0].depth.shape[-1]
    colours = torch.cat([F.interpolate(view.image, (side, side), mode="area") for view in views])
    true = heads.draw_views(heads.parameters(_latent(number)).expand(2, -1), cameras, side)
    true_colours = true.colour.permute(0, 3, 1, 2) * 2 - 1
    return {
        "model": _warp_error(colours, torch.cat([view.depth for view in views]), cameras),
        "true renders": _warp_error(true_colours, true.depth, cameras),
    }


def smile(number: int) -> dict[str, float]:
    """How much a smile changes the mouth's region, and the rest of the head, in mean differences (of 255)."""
    camera = CameraConfig.create_front_view()
    neutral = _controller().edit_attribute(_latent(number), "expression", "neutral")
    views = [
        model().view(model().planes(latent, PSI), camera)
        for latent in (neutral, _controller().edit_attribute(neutral, "expression", "smile"))
    ]
    change = (views[0].image.clamp(-1, 1) - views[1].image.clamp(-1, 1)).abs().mean(1)[0] * 127.5
    head = F.interpolate(torch.maximum(views[0].opacity, views[1].opacity)[None], change.shape)[0, 0] > 0.5
    mouth = _box(camera, len(change))
    return {"mouth": change[mouth].mean().item(), "rest": change[head & ~mouth].mean().item()}


def identity(number: int) -> dict[str, float]:
    """Distances of what the reader sees of the person: to the next seed, and to the same seed's edits."""
    plain, other = (_identity(_latent(n)) for n in (number, number + 1_000))
    found = {"another seed": (plain - other).square().mean().sqrt().item()}
    for name, option in EDITS:
        edited = _identity(_controller().edit_attribute(_latent(number), name, option))
        found[f"{name} {option}"] = (plain - edited).square().mean().sqrt().item()
    return found


def seconds(number: int) -> dict[str, float]:
    """One 512 × 512 view on one core, planes included."""
    began = time.perf_counter()
    model().view(model().planes(_latent(number), PSI), CameraConfig.create_front_view(), 512)
    return {"seconds": time.perf_counter() - began}


def _identity(latent: Tensor) -> Tensor:
    picture = model().view(model().planes(latent, PSI), CameraConfig.create_front_view(), 256).image
    return _reader().read(picture).identity()[0]


def _true_picture(params: Tensor, camera: Tensor, side: int) -> Tensor:
    return heads.draw_views(params, camera, side).colour.permute(0, 3, 1, 2) * 2 - 1


def _box(camera: Tensor, side: int) -> Tensor:
    """The pixels [side, side] of the mouth's region."""
    (left, right), (low, high), z = MOUTH
    corners = torch.tensor([[left, low, z, 1.0], [right, high, z, 1.0]])
    columns, rows, _ = _project(corners, camera).unbind(-1)
    place = torch.arange(side).add(0.5) / side
    return ((place > rows.min()) & (place < rows.max()))[:, None] & (place > columns.min()) & (place < columns.max())


def _project(points: Tensor, camera: Tensor) -> Tensor:
    """World points [..., 4] → [..., 3]: column and row as shares of the picture, and the distance from the camera."""
    poses, ks = unpack_cameras(camera.reshape(1, 25))
    seen = (points @ torch.linalg.inv(poses[0]).T)[..., :3]
    place = seen @ ks[0].T
    return torch.cat([place[..., :2] / place[..., 2:], seen.norm(dim=-1, keepdim=True)], -1)


def _warp_error(colours: Tensor, depth: Tensor, cameras: Tensor) -> float:
    """colours [2, 3, R, R], depth [2, R, R]: the second view's surface, looked up in the first view."""
    side = depth.shape[-1]
    origins, directions = sample_rays(cameras[1:], side)
    seen = torch.isfinite(depth[1]).flatten()
    points = origins[0][seen] + depth[1].flatten()[seen, None] * directions[0][seen]
    column, row, distance = _project(F.pad(points, (0, 1), value=1.0), cameras[0]).unbind(-1)
    grid = torch.stack([column, row], -1)[None, None] * 2 - 1
    there = F.grid_sample(depth[:1, None], grid, mode="nearest", align_corners=False)[0, 0, 0]
    looked_up = F.grid_sample(colours[:1], grid, align_corners=False)[0, :, 0]
    visible = (there - distance).abs() < 0.03
    difference = (looked_up - colours[1].flatten(1)[:, seen]).abs().mean(0)
    return difference[visible].mean().item() * 127.5


MEASURES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "recognised": (recognised, 300),
    "psnr": (psnr, 100),
    "silhouettes": (silhouettes, 20),
    "depth warp": (depth_warp, 20),
    "smile": (smile, 40),
    "identity": (identity, 40),
}


@torch.no_grad()
def _measure(task: Task) -> dict[str, Any]:
    name, number = task
    model()
    torch.manual_seed(FIRST_SEED + number)
    return MEASURES[name][0](number)


def summary(found: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """The measures of all heads as the README tells them."""
    rows = found["recognised"]
    told: dict[str, Any] = {
        "requests": len(rows),
        "recognised, %": {
            who: {name: _rounded(100 * _mean(row[who][name] for row in rows)) for name in rows[0][who]}
            for who in ("model", "true renders")
        },
        "PSNR, dB": {"mean": _rounded(_mean(row["dB"] for row in found["psnr"])), "heads": len(found["psnr"])},
        "silhouettes, IoU": {
            "mean": _rounded(_mean(row["mean"] for row in found["silhouettes"]), 3),
            "worst view": _rounded(min(row["worst"] for row in found["silhouettes"]), 3),
        },
        "depth warp, of 255": _means(found["depth warp"]),
        "smile changes, of 255": _means(found["smile"]),
        "identity distance": _means(found["identity"], 3),
    }
    changes = told["smile changes, of 255"]
    changes["ratio"] = _rounded(changes["mouth"] / changes["rest"])
    return told


def _means(rows: Sequence[dict[str, float]], digits: int = 2) -> dict[str, float]:
    return {name: _rounded(_mean(row[name] for row in rows), digits) for name in rows[0]}


def _mean(values: Any) -> float:
    return statistics.fmean(values)


def _rounded(value: float, digits: int = 1) -> float:
    return round(value, digits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the heads, for a quick look")
    parser.add_argument("--save", type=Path, help="write the scores as JSON")
    args = parser.parse_args()
    tasks = [(name, n) for name, (_, count) in MEASURES.items() for n in range(max(1, round(count * args.share)))]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in MEASURES}
    with get_context("spawn").Pool(2) as pool:
        for (name, _), result in zip(tasks, tqdm(pool.imap(_measure, tasks), total=len(tasks)), strict=True):
            found[name].append(result)
    with torch.no_grad():
        model()
        taken = [seconds(number)["seconds"] for number in range(6)][1:]
    scores = summary(found)
    scores["512 × 512 view on one core, s"] = round(statistics.median(taken), 2)
    scores["size, MB"] = round((WEIGHTS / GENERATOR).stat().st_size / 1e6, 2)
    print(json.dumps(scores, indent=2, ensure_ascii=False))
    if args.save:
        args.save.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
