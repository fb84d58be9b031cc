"""How well the house model follows prompts it was never shown: `python -m workers.image.house.score`.

For each size, pictures of held-out combinations of shape, colour and background are drawn at the API's default
settings and read by `checker.py`. The checker's own score on true drawings is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw
from tqdm import tqdm

from workers.image.catalog import LORA_FILE
from workers.image.house.checker import read
from workers.image.house.drawing import COLOURS, SHAPES, Scene, draw, held_out, placed, single_caption

HERE = Path(__file__).parent
MODEL, LORA = HERE / "weights" / "shapes", HERE / "weights" / "sketch-lora"
SIZES = "512x512,256x256,768x512"
STEPS, GUIDANCE = 20, 7.5


@dataclass(frozen=True, slots=True)
class Prompt:
    """A caption and what a right picture must show."""

    caption: str
    shape: str
    colour: str
    background: str
    scene: Scene


def held_out_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts whose combination of shape, colour and background is kept out of the training data."""
    rng = random.Random(seed)
    combinations = [
        (shape, colour, ground)
        for shape in SHAPES
        for colour in COLOURS
        for ground in COLOURS
        if colour != ground and held_out(shape, colour, ground)
    ]
    order = rng.sample(combinations, len(combinations))
    chosen = [order[n % len(order)] for n in range(count)]
    return [_prompt(rng, *combination) for combination in chosen]


def _prompt(rng: random.Random, shape: str, colour: str, ground: str) -> Prompt:
    size, place = rng.choice(["medium", "large"]), "in the center"
    caption = single_caption(rng, shape, colour, ground, size, place)
    scene = Scene(caption, (placed(rng, shape, colour, size, place, 1.0),), ground)
    return Prompt(caption, shape, colour, ground, scene)


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in fp32, without its progress bar."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pictures(
    pipe: StableDiffusionPipeline,
    captions: Sequence[str],
    seeds: Sequence[int],
    width: int,
    height: int,
    batch: int = 8,
) -> list[Image.Image]:
    """One picture a caption, each from its own seed, at the API's default settings."""
    rescale = json.loads((MODEL / "atelier.json").read_text())["guidance_rescale"]
    made: list[Image.Image] = []
    for first in tqdm(range(0, len(captions), batch), desc=f"{width}x{height}", mininterval=5):
        part = slice(first, first + batch)
        made += pipe(
            list(captions[part]),
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            guidance_rescale=rescale,
            width=width,
            height=height,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
        ).images
    return made


def marks(picture: Image.Image, prompt: Prompt) -> dict[str, bool]:
    """What the checker finds right in a picture."""
    reading = read(picture)
    first = reading.things[0] if reading.things else None
    found = {
        "background": reading.background == prompt.background,
        "colour": first is not None and first.colour == prompt.colour,
        "shape": first is not None and first.shape == prompt.shape,
    }
    return found | {"all three": all(found.values())}


def shares(found: Sequence[dict[str, bool]]) -> dict[str, float]:
    """Per cent right, by aspect."""
    return {name: round(100 * sum(mark[name] for mark in found) / len(found), 1) for name in found[0]}


def score_size(pipe: StableDiffusionPipeline, prompts: Sequence[Prompt], width: int, height: int) -> dict[str, Any]:
    """The scores of one size, with the checker's own on true drawings."""
    made = pictures(pipe, [p.caption for p in prompts], range(1000, 1000 + len(prompts)), width, height)
    rng = random.Random(1)
    true = [draw(p.scene, 2 * width, 2 * height, rng).resize((width, height), Image.Resampling.BOX) for p in prompts]
    return {
        "model": shares([marks(picture, prompt) for picture, prompt in zip(made, prompts, strict=True)]),
        "checker on true drawings": shares([marks(t, p) for t, p in zip(true, prompts, strict=True)]),
    }


def score_lora(pipe: StableDiffusionPipeline, prompts: Sequence[Prompt]) -> dict[str, float]:
    """How much of its outline a thing fills without and with the sketch LoRA (rings left out: they are hollow)."""
    chosen = [prompt for prompt in prompts if prompt.shape != "ring"][:24]
    seeds = range(2000, 2000 + len(chosen))
    plain = pictures(pipe, [p.caption for p in chosen], seeds, 512, 512)
    pipe.load_lora_weights(LORA, weight_name=LORA_FILE, adapter_name="sketch")
    sketched = pictures(pipe, [p.caption for p in chosen], seeds, 512, 512)
    pipe.unload_lora_weights()
    return {"filled without LoRA": _filled(plain), "filled with LoRA": _filled(sketched)}


def _filled(made: Sequence[Image.Image]) -> float:
    things = [reading.things[0].filled for picture in made if (reading := read(picture)).things]
    return round(100 * sum(things) / max(1, len(things)), 1)


def seconds_per_picture(pipe: StableDiffusionPipeline) -> float:
    """Median of three pictures of 512×512 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = []
    for seed in range(4):
        began = time.perf_counter()
        pictures(pipe, ["a large red circle on a blue background"], [seed], 512, 512)
        taken.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return round(sorted(taken[1:])[1], 2)


def contact_sheet(
    made: Sequence[Image.Image], captions: Sequence[str], columns: int = 6, side: int = 160
) -> Image.Image:
    """The pictures in rows, their captions below them."""
    rows = -(-len(made) // columns)
    sheet = Image.new("RGB", (columns * (side + 8), rows * (side + 36)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(zip(made, captions, strict=True)):
        x, y = number % columns * (side + 8) + 4, number // columns * (side + 36) + 4
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        middle = caption.find(" ", len(caption) // 2 - 4)
        pen.text(
            (x, y + side + 2), f"{caption[:middle]}\n{caption[middle + 1 :]}", fill="black", font_size=10, spacing=1
        )
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--save", type=Path, help="write the scores as JSON, and a contact sheet beside them")
    args = parser.parse_args()
    pipe, prompts = load(args.model), held_out_prompts(args.prompts, args.seed)
    scores: dict[str, Any] = {"prompts": args.prompts, "steps": STEPS, "guidance_scale": GUIDANCE}
    for size in args.sizes.split(","):
        width, height = (int(side) for side in size.split("x"))
        scores[size] = score_size(pipe, prompts, width, height)
        print(size, json.dumps(scores[size]), flush=True)
    scores["seconds a picture, 512x512, one thread"] = seconds_per_picture(pipe)
    if (LORA / LORA_FILE).exists():
        scores["sketch LoRA"] = score_lora(pipe, prompts)
    print(json.dumps(scores, indent=2))
    if args.save:
        args.save.write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
