"""The house model's world: coloured shapes on plain backgrounds, with the words that describe them.

Places and sizes are fractions: x and y of the picture's width and height, r (half extent) of its shorter side. What a
caption leaves open is fixed: no size means medium, no place means the centre, no background means white. Only a small
jitter remains, so that a caption nearly determines its picture and a small model can learn the rest.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass

from PIL import Image, ImageDraw

Point = tuple[float, float]
RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 35, 40),
    "orange": (250, 145, 20),
    "yellow": (252, 225, 45),
    "green": (40, 155, 65),
    "cyan": (70, 215, 225),
    "blue": (35, 75, 210),
    "purple": (130, 45, 170),
    "pink": (250, 150, 195),
    "brown": (125, 75, 35),
    "black": (18, 18, 22),
    "white": (248, 248, 248),
    "gray": (135, 138, 142),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring")
SIZES = {"small": 0.2, "medium": 0.3, "large": 0.42}
SIZE_WORDS = {"small": ("small", "small", "tiny"), "medium": ("medium",), "large": ("large", "large", "big", "huge")}
PLACES: dict[str, Point] = {
    "in the top left": (0.28, 0.28),
    "in the top right": (0.72, 0.28),
    "in the bottom left": (0.28, 0.72),
    "in the bottom right": (0.72, 0.72),
    "at the top": (0.5, 0.28),
    "at the bottom": (0.5, 0.72),
    "on the left": (0.28, 0.5),
    "on the right": (0.72, 0.5),
    "in the center": (0.5, 0.5),
}
RING_HOLE = 0.55


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in a scene."""

    shape: str
    colour: str
    x: float
    y: float
    r: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A caption and what it describes."""

    caption: str
    things: tuple[Thing, ...]
    background: str


def outline(shape: str, x: float, y: float, r: float) -> list[Point]:
    """Corner points of a shape with half extent r around (x, y)."""
    if shape in ("circle", "ring"):
        return _around(x, y, [r] * 72)
    if shape == "star":
        return _around(x, y, [1.06 * r, 0.45 * r] * 5)
    if shape == "heart":
        return [_heart(x, y, r, 2 * math.pi * i / 72) for i in range(72)]
    corners: dict[str, list[Point]] = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1), (1, 0.85), (-1, 0.85)],
        "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
        "cross": [
            (-0.34, -1), (0.34, -1), (0.34, -0.34), (1, -0.34), (1, 0.34), (0.34, 0.34),
            (0.34, 1), (-0.34, 1), (-0.34, 0.34), (-1, 0.34), (-1, -0.34), (-0.34, -0.34),
        ],
    }  # fmt: skip
    return [(x + a * r, y + b * r) for a, b in corners[shape]]


def _around(x: float, y: float, radii: list[float]) -> list[Point]:
    step = 2 * math.pi / len(radii)
    return [(x + radius * math.sin(i * step), y - radius * math.cos(i * step)) for i, radius in enumerate(radii)]


def _heart(x: float, y: float, r: float, t: float) -> Point:
    height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return x + r * math.sin(t) ** 3, y - r * height / 15.5


def draw(scene: Scene, width: int, height: int, rng: random.Random, *, sketch: bool = False) -> Image.Image:
    """The scene as an RGB picture without anti-aliasing (draw it larger and shrink it); sketch: outlines only."""
    paper = _shade(scene.background, rng)
    picture = Image.new("RGB", (width, height), paper)
    pen, side = ImageDraw.Draw(picture), min(width, height)
    for thing in scene.things:
        x, y, r, ink = thing.x * width, thing.y * height, thing.r * side, _shade(thing.colour, rng)
        edges = [outline(thing.shape, x, y, r)]
        if thing.shape == "ring":
            edges.append(outline("circle", x, y, r * RING_HOLE))
        if sketch:
            for edge in edges:
                pen.line([*edge, edge[0], edge[1]], fill=ink, width=round(0.05 * side), joint="curve")
        else:
            for edge, fill in zip(edges, (ink, paper), strict=False):
                pen.polygon(edge, fill=fill)
    return picture


def _shade(name: str, rng: random.Random) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-7, 7))) for value in COLOURS[name])
    return red, green, blue


def held_out(shape: str, colour: str, background: str) -> bool:
    """Whether this combination is never shown in training (one in eight)."""
    return zlib.crc32(f"{shape} {colour} {background}".encode()) % 8 == 0


def sample(rng: random.Random, *, aspect: float = 1.0) -> Scene:
    """A scene for training; `aspect` is width / height of the picture that it is for."""
    kind = rng.random()
    while True:
        scene = _pattern(rng) if kind < 0.03 else _pair(rng) if kind < 0.15 else _single(rng, aspect)
        if kind < 0.03 or not any(held_out(t.shape, t.colour, scene.background) for t in scene.things):
            return scene


def _single(rng: random.Random, aspect: float) -> Scene:
    background = rng.choice(list(COLOURS)) if rng.random() < 0.94 else "white"
    shape, colour = rng.choice(SHAPES), rng.choice([c for c in COLOURS if c != background])
    place = rng.choice([*PLACES, *["in the center"] * 12])
    centred = place == "in the center"
    size = rng.choice(["small", "medium", "large", "large"] if centred else ["small", "small", "medium"])
    described = single_caption(rng, shape, colour, background, size, place)
    return Scene(described, (placed(rng, shape, colour, size, place, aspect),), background)


def placed(rng: random.Random, shape: str, colour: str, size: str, place: str, aspect: float) -> Thing:
    """A thing at a named place, moved inwards as far as it must be to lie inside the picture."""
    r = SIZES[size] * rng.uniform(0.96, 1.04)
    x, y = (v + rng.uniform(-0.015, 0.015) for v in PLACES[place])
    rx, ry = 1.07 * r / max(1.0, aspect), 1.07 * r * min(1.0, aspect)
    return Thing(shape, colour, min(max(x, rx), 1 - rx), min(max(y, ry), 1 - ry), r)


def single_caption(rng: random.Random, shape: str, colour: str, background: str, size: str, place: str) -> str:
    """One of the ways to say it; what is said by default may be left out."""
    size_word = rng.choice(SIZE_WORDS[size]) if size != "medium" or rng.random() < 0.3 else ""
    place_words = place if place != "in the center" else ""
    if place == "in the center" and rng.random() < 0.15:
        place_words = rng.choice(["in the center", "in the middle", "in the centre"])
    paint, ground = _spelling(rng, colour), _spelling(rng, background)
    thing = " ".join(word for word in (size_word, paint, shape, place_words) if word)
    head = rng.choice([_a(thing), _a(thing), _a(thing), thing, f"one {thing}"])
    if background == "white" and rng.random() < 0.3:
        return head
    grounds = [f" on {_a(ground)} background"] * 4
    grounds += [f", {ground} background", f" on {ground}", f" against {_a(ground)} background"]
    return head + rng.choice(grounds)


def _a(words: str) -> str:
    return f"{'an' if words.startswith('orange') else 'a'} {words}"


def _spelling(rng: random.Random, colour: str) -> str:
    return "grey" if colour == "gray" and rng.random() < 0.4 else colour


def _pair(rng: random.Random) -> Scene:
    background = rng.choice(list(COLOURS))
    colours = rng.sample([c for c in COLOURS if c != background], 2)
    shapes = [rng.choice(SHAPES), rng.choice(SHAPES)]
    relation = rng.choice(["left of", "right of", "above", "below", "next to", "and"])
    spots = {"above": ((0.5, 0.28), (0.5, 0.72)), "below": ((0.5, 0.72), (0.5, 0.28))}
    spots["right of"] = ((0.73, 0.5), (0.27, 0.5))
    a, b = spots.get(relation, ((0.27, 0.5), (0.73, 0.5)))
    things = tuple(
        Thing(s, c, x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02), rng.uniform(0.19, 0.21))
        for s, c, (x, y) in zip(shapes, colours, (a, b), strict=True)
    )
    first, second = (f"{_a(_spelling(rng, c))} {s}" for s, c in zip(shapes, colours, strict=True))
    return Scene(f"{first} {relation} {second} on {_a(_spelling(rng, background))} background", things, background)


def _pattern(rng: random.Random) -> Scene:
    """Many shapes at random: what the words "abstract" and "geometric" mean here."""
    line_art = rng.random() < 0.4
    background = "white" if line_art else rng.choice(list(COLOURS))
    palette = ["black", "gray"] if line_art else [c for c in COLOURS if c != background]
    things = tuple(
        Thing(rng.choice(SHAPES), rng.choice(palette), rng.random(), rng.random(), rng.uniform(0.08, 0.2))
        for _ in range(rng.randint(3, 4) if line_art else rng.randint(7, 10))
    )
    caption = rng.choice(
        ["minimalist line art, geometric forms, clean design, white background", "minimalist geometric forms"]
        if line_art
        else ["abstract geometric patterns in vibrant colors, artistic composition", "abstract geometric patterns"]
    )
    return Scene(caption, things, background)
