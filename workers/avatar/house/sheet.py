"""Draws the contact sheet: seeds × views × attributes (`python -m workers.avatar.house.sheet`)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from workers.avatar.aetherist.attributes import StyleController
from workers.avatar.aetherist.cameras import camera_from_angles
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.images import tensor_to_pil
from workers.avatar.house.train import WEIGHTS

SEEDS = (3, 8, 21, 34, 55, 90)
VIEWS = (("from the left", -0.7), ("seed", 0.0), ("from the right", 0.7), ("profile", 1.5))
EDITS = (
    ("smile", {"expression": "smile"}),
    ("serious", {"expression": "serious"}),
    ("young", {"age": "young"}),
    ("elderly", {"age": "elderly"}),
    ("blonde", {"hair_color": "blonde"}),
    ("blue hair", {"hair_color": "blue"}),
)
SIDE, HEADER, PSI = 200, 22, 0.8


@torch.no_grad()
def contact_sheet() -> Image.Image:
    """A row a seed: four views, then the same person with one attribute changed."""
    generator = AetheristGenerator.from_pretrained(WEIGHTS).eval()
    controller = StyleController(generator)
    names = [name for name, _ in VIEWS] + [name for name, _ in EDITS]
    sheet = Image.new("RGB", (SIDE * len(names), HEADER + SIDE * len(SEEDS)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        pen.text((column * SIDE + SIDE / 2, HEADER / 2), name, fill=(90, 90, 90), anchor="mm", font_size=14)
    for row, seed in enumerate(SEEDS):
        latent = controller.encode_attributes({}, seed=seed)
        cells = [(latent, angle) for _, angle in VIEWS]
        for _, edit in EDITS:
            edits = [{"attribute": name, "direction": option} for name, option in edit.items()]
            cells.append((controller.mix_attributes(latent, edits), 0.25))
        for column, (code, angle) in enumerate(cells):
            camera = camera_from_angles(torch.tensor([angle]), torch.tensor([0.1]), torch.tensor(2.4))
            picture = tensor_to_pil(generator.view(generator.planes(code, PSI), camera).image)
            place = (column * SIDE, HEADER + row * SIDE)
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), place)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, default=Path("contact_sheet.jpg"))
    args = parser.parse_args()
    contact_sheet().save(args.save, quality=92)


if __name__ == "__main__":
    main()
