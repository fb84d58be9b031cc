"""Reads a head's attributes off its picture. It has learnt from true renders only, and judges the model with that.

`python -m workers.avatar.house.reader` draws the renders and trains it (about a quarter of an hour on two cores).
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.multiprocessing import get_context
from torch.nn import functional as F
from tqdm import tqdm

from workers.avatar.aetherist import checkpoints
from workers.avatar.aetherist.cameras import camera_from_angles
from workers.avatar.house import heads

WEIGHTS = Path(__file__).parent / "weights" / "reader.safetensors"
SIDE = 128
PART = 250  # renders a file
ATTRIBUTES = ("age", "gender", "expression")
# fmt: off
IDENTITY = [
    "skin_dark", "skin_warm", "face_width", "jaw", "chin", "cheeks", "nose_length", "nose_width", "eye_size",
    "eye_distance", "iris_hue", "iris_light", "brow_thick", "lips", "ears",
]
# fmt: on
SCALARS = (*ATTRIBUTES, *IDENTITY)


@dataclass(frozen=True)
class Reading:
    """What was read off N pictures: `values` [N, 18] (the SCALARS as normal scores) and `hair` [N, 3] in OKLab."""

    values: Tensor
    hair: Tensor

    def labels(self) -> dict[str, list[str]]:
        """Class names as `heads.labels` gives them."""
        uniform = 0.5 * (1 + torch.erf(self.values / math.sqrt(2)))
        found = {
            name: [heads.CLASSES[name][min(max(int(value * 3), 0), 2)] for value in uniform[:, n].tolist()]
            for n, name in enumerate(ATTRIBUTES)
        }
        palette = heads.oklab(torch.tensor(list(heads.HAIR_COLOURS.values())))
        names = list(heads.HAIR_COLOURS)
        return found | {"hair_color": [names[n] for n in torch.cdist(self.hair, palette).argmin(-1).tolist()]}

    def identity(self) -> Tensor:
        """[N, 15]: what makes the person, without age, gender, expression and hair."""
        return self.values[:, len(ATTRIBUTES) :]


class Reader(nn.Module):
    """A small convolutional network, [N, 3, 128, 128] in [-1, 1] → 18 scalars and the hair's colour."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, 24, 48, 72, 96, 128]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(128 * 16, 128), nn.LeakyReLU(0.1), nn.Linear(128, len(SCALARS) + 3)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            pictures = F.leaky_relu(norm(conv(pictures)), 0.1)
        return self.head(pictures.flatten(1))

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Reading:
        """Pictures [N, 3, H, W] of any size, near the front view."""
        small = F.interpolate(pictures.clamp(-1, 1), (SIDE, SIDE), mode="bilinear", antialias=True)
        out = torch.cat([self(part) for part in small.split(64)])
        return Reading(out[:, : len(SCALARS)], out[:, len(SCALARS) :])

    @classmethod
    def load(cls) -> Reader:
        reader = cls()
        checkpoints.load_network(reader, WEIGHTS)
        return reader.eval()


def truth(params: Tensor) -> Tensor:
    """What the reader should say of true heads, [N, 21]."""
    columns = params[:, [heads.NAMES.index(name) for name in SCALARS]]
    normal = math.sqrt(2) * torch.erfinv(2 * columns - 1)
    return torch.cat([normal, heads.oklab(heads.hair_colour(params))], 1)


def draw_examples(count: int, folder: Path, processes: int = 2) -> None:
    """Renders with what is true of them, in files of 250, from cameras near the front."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [path for path in (folder / f"{part}.pt" for part in range(count // PART)) if not path.exists()]
    with get_context("spawn").Pool(processes, heads.compile_fields) as pool:
        list(tqdm(pool.imap(_draw_part, missing), total=len(missing), desc="renders"))


@torch.no_grad()
def _draw_part(path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1000 + int(path.stem))
    params = heads.parameters(torch.randn(PART, heads.LATENT_DIM))
    cameras = camera_from_angles(torch.randn(PART) * 0.15, torch.randn(PART) * 0.12, 2.4 + 0.2 * torch.rand(PART))
    colour = heads.draw_views(params, cameras, SIDE).colour
    torch.save({"pictures": (colour * 255).byte().permute(0, 3, 1, 2).contiguous(), "truth": truth(params)}, path)


def train(folder: Path, epochs: int = 30) -> Reader:
    """Learn from all files but the last, whose errors are printed."""
    files = [torch.load(path) for path in sorted(folder.glob("*.pt"), key=lambda path: int(path.stem))]
    pictures = torch.cat([file["pictures"] for file in files])
    target = torch.cat([file["truth"] for file in files])
    scale = torch.tensor([4.0] * len(ATTRIBUTES) + [1.0] * len(IDENTITY) + [12.0, 24.0, 24.0])
    count, batch = len(pictures) - PART, 64
    torch.manual_seed(0)
    reader = Reader()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * (count // batch))
    for _ in (bar := tqdm(range(epochs), desc="reader")):
        for rows in torch.randperm(count)[: count // batch * batch].split(batch):
            with torch.autocast("cpu", torch.bfloat16):
                out = reader(_augment(pictures[rows].float() / 127.5 - 1)).float()
            loss = F.smooth_l1_loss(out * scale, target[rows] * scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}")
    reader.eval()
    seen = reader.read(pictures[count:].float() / 127.5 - 1)
    error = (torch.cat([seen.values, seen.hair], 1) - target[count:]).square().mean(0).sqrt()
    print({name: round(value, 3) for name, value in zip([*SCALARS, "L", "a", "b"], error.tolist(), strict=True)})
    return reader


def _augment(pictures: Tensor) -> Tensor:
    """Mirroring, blur, noise and small shifts: the reader must not live on what only a true render has."""
    if torch.rand(()) < 0.5:
        pictures = pictures.flip(-1)
    if torch.rand(()) < 0.75:
        small = int(torch.randint(36, SIDE, (1,)))
        pictures = F.interpolate(pictures, (small, small), mode="bilinear", antialias=True)
        pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear")
    shift = torch.randint(-3, 4, (2,)).tolist()
    pictures = torch.roll(pictures, shift, (-2, -1))
    return pictures + 0.03 * torch.randn_like(pictures) * torch.rand(len(pictures), 1, 1, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("house-avatar-training/renders"))
    parser.add_argument("--count", type=int, default=10_000)
    args = parser.parse_args()
    draw_examples(args.count, args.folder)
    reader = train(args.folder)
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save_network(reader, WEIGHTS, torch.float16)


if __name__ == "__main__":
    main()
