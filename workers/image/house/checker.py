"""Reads a picture of the house model's world: which background, which shapes, which colours. It has learnt nothing.

A shape is recognised by the overlap (intersection over union) of its outline with true drawings of all shapes, each
cut out and brought to one size; the aspect of the cut-out is kept.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from workers.image.house.drawing import COLOURS, SHAPES, Scene, Thing, draw

SIDE = 256  # pictures are read at this length of their shorter side
TEMPLATE = 48
FAR = 45.0  # RGB distance from which a pixel no longer belongs to the background
NAMES = list(COLOURS)
TABLE = np.array([COLOURS[name] for name in NAMES], float)


@dataclass(frozen=True, slots=True)
class Found:
    """A thing: `x`, `y` of its centre in fractions; `filled`: the painted share of its inside."""

    shape: str
    colour: str
    x: float
    y: float
    filled: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The background, and the things on it, the largest first."""

    background: str
    things: list[Found]


def read(picture: Image.Image) -> Reading:
    """What the picture shows."""
    pixels = _shrunk(picture)
    sides = (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:])
    frame = np.concatenate([side.reshape(-1, 3) for side in sides])
    ground = np.median(frame, axis=0)
    labels, count = ndimage.label(np.linalg.norm(pixels - ground, axis=2) > FAR)
    masks = [labels == number for number in range(1, count + 1)]
    masks = [mask for mask in masks if mask.sum() > 0.004 * mask.size]
    things = [_thing(pixels, mask, ground) for mask in sorted(masks, key=lambda mask: -mask.sum())]
    return Reading(_colour(ground), things)


def _shrunk(picture: Image.Image) -> np.ndarray:
    """[H, W, 3] floats with a shorter side of SIDE."""
    scale = SIDE / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX), float)


def _colour(rgb: np.ndarray) -> str:
    return NAMES[int(np.argmin(((TABLE - rgb) ** 2).sum(1)))]


def _thing(pixels: np.ndarray, mask: np.ndarray, ground: np.ndarray) -> Found:
    rows, columns = np.nonzero(mask)
    core = ndimage.binary_erosion(mask, iterations=2)
    paint = np.median(pixels[core if core.any() else mask], axis=0)
    height, width = mask.shape
    return Found(
        _shape(mask),
        _colour(paint),
        (columns.min() + columns.max() + 1) / 2 / width,
        (rows.min() + rows.max() + 1) / 2 / height,
        _filled(pixels[ndimage.binary_fill_holes(mask)], ground),
    )


def _filled(enclosed: np.ndarray, ground: np.ndarray) -> float:
    """The share of pixels [N, 3] that are nearer to the strongest paint among them than to the background."""
    away = np.linalg.norm(enclosed - ground, axis=1)
    ink = np.median(enclosed[away >= np.quantile(away, 0.75)], axis=0)
    return float((np.linalg.norm(enclosed - ink, axis=1) < away).mean())


def _shape(mask: np.ndarray) -> str:
    cut = _cut_out(mask)
    overlap = {name: (cut & shape).sum() / (cut | shape).sum() for name, shape in _templates().items()}
    return max(overlap, key=lambda name: overlap[name])


def _cut_out(mask: np.ndarray) -> np.ndarray:
    """The mask's bounding box, centred in a square, TEMPLATE × TEMPLATE."""
    rows, columns = np.nonzero(mask)
    part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    side = max(part.shape)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square[top : top + part.shape[0], left : left + part.shape[1]] = 255 * part
    resized = Image.fromarray(square).resize((TEMPLATE, TEMPLATE), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127


@lru_cache
def _templates() -> dict[str, np.ndarray]:
    drawn = {}
    for shape in SHAPES:
        scene = Scene("", (Thing(shape, "black", 0.5, 0.5, 0.4),), "white")
        drawn[shape] = _cut_out(np.asarray(draw(scene, 400, 400, random.Random(0)), float).mean(2) < 128)
    return drawn
