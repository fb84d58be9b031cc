"""Estimates the house model's attribute directions: `python -m workers.avatar.house.attributes`, a quarter of an hour.

Nothing here knows how the model was made: random latents are drawn, the reader says what it sees on their pictures, and
`find_latent_directions` finds what in the latents goes with it, as one would for a model found elsewhere.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing import get_context
from tqdm import tqdm

from workers.avatar.aetherist.attributes import StyleController, attribute_space, save_attributes
from workers.avatar.aetherist.cameras import CameraConfig
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.latents import find_latent_directions
from workers.avatar.house import heads
from workers.avatar.house.reader import ATTRIBUTES, IDENTITY, WEIGHTS, Reader, Reading
from workers.avatar.house.train import WEIGHTS as MODEL

SIDE = 256  # pixels of the pictures that are read
PART = 50  # latents a task
READINGS = (*ATTRIBUTES, "skin_dark", "hair L", "hair a", "hair b", "rest")
COMPLEXIONS = ("fair", "light", "medium", "brown", "dark")
CLEARNESS = 4  # how much more a clear example of a hair colour counts
EMPHASIS = 1.25  # options lie further out than their samples' mean, which a truncation of 0.8 takes back


def look(model: Path, latents: Tensor, processes: int = 2) -> Reading:
    """What the reader sees on the model's front views of latents [N, latent_dim]."""
    parts = [(model, part) for part in latents.split(PART)]
    with get_context("spawn").Pool(processes) as pool:
        found = list(tqdm(pool.imap(_look_part, parts), total=len(parts), desc="views"))
    return Reading(torch.cat([part.values for part in found]), torch.cat([part.hair for part in found]))


@torch.no_grad()
def _look_part(task: tuple[Path, Tensor]) -> Reading:
    torch.set_num_threads(1)
    model, latents = task
    generator, reader = AetheristGenerator.from_pretrained(model), Reader.load()
    camera = CameraConfig.create_front_view()
    pictures = [generator.view(generator.planes(latent[None]), camera, SIDE).image for latent in latents]
    return reader.read(torch.cat(pictures))


def estimate(latents: Tensor, seen: Reading) -> tuple[dict[str, Tensor], dict[str, dict[str, list[float]]]]:
    """Directions and options of age, gender, expression, hair_color and ethnicity (a complexion)."""
    dark = seen.values[:, len(ATTRIBUTES) + IDENTITY.index("skin_dark")]
    values = {name: seen.values[:, n] for n, name in enumerate(ATTRIBUTES)}
    values |= {f"hair {axis}": seen.hair[:, n] for n, axis in enumerate("Lab")} | {"ethnicity": dark}
    found = find_latent_directions(values, latents)
    directions: dict[str, list[Tensor]] = {name: [found[name]] for name in (*ATTRIBUTES, "ethnicity")}
    directions["hair_color"] = [found[f"hair {axis}"] for axis in "Lab"]
    samples = {name: _members(seen.values[:, n], heads.CLASSES[name]) for n, name in enumerate(ATTRIBUTES)}
    samples["ethnicity"] = _members(dark, COMPLEXIONS)
    samples["hair_color"] = _clear_members(seen.hair)
    vectors, options = attribute_space(directions, samples, latents)
    spread = {
        name: {option: [EMPHASIS * value for value in place] for option, place in places.items()}
        for name, places in options.items()
    }
    return vectors, spread


def _members(scores: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Normal scores [N], cut into as many equally likely classes as there are names: who belongs to which, [N] each."""
    places = (0.5 * (1 + torch.erf(scores / math.sqrt(2))) * len(names)).long().clamp(0, len(names) - 1)
    return {name: (places == n).float() for n, name in enumerate(names)}


def _clear_members(colours: Tensor) -> dict[str, Tensor]:
    """OKLab colours [N, 3] → how clearly each is one of the named hair colours: by how much it is nearest."""
    palette = heads.oklab(torch.tensor(list(heads.HAIR_COLOURS.values())))
    distance, name = torch.cdist(colours, palette).topk(2, largest=False)
    margin = (distance[:, 1] - distance[:, 0]).pow(CLEARNESS)
    return {option: margin * (name[:, 0] == n) for n, option in enumerate(heads.HAIR_COLOURS)}


def effects(model: Path, controller: StyleController, latents: Tensor) -> dict[str, Any]:
    """How far each option moves what the reader sees, in standard deviations of the random latents' readings."""
    plain = look(model, latents)
    found: dict[str, Any] = {}
    for name, options in controller.options.items():
        for option in options:
            seen = look(model, controller.edit_attribute(latents, name, option))
            moved = _standard(seen, plain) - _standard(plain, plain)
            found[f"{name}: {option}"] = dict(zip(READINGS, [round(v, 2) for v in moved.mean(0).tolist()], strict=True))
    return found


def _standard(seen: Reading, plain: Reading) -> Tensor:
    """[N, 8]: the readings in the plain ones' standard deviations; the last is the identity's distance."""
    dark = len(ATTRIBUTES) + IDENTITY.index("skin_dark")
    columns = [*range(len(ATTRIBUTES)), dark]
    now, then = (torch.cat([part.values[:, columns], part.hair], 1) for part in (seen, plain))
    others = [n for n in range(len(ATTRIBUTES), seen.values.shape[1]) if n != dark]
    rest = (seen.values - plain.values)[:, others].square().mean(1, keepdim=True).sqrt()
    return torch.cat([now / then.std(0), rest], 1)


def save(folder: Path, vectors: Mapping[str, Tensor], options: Mapping[str, Any], samples: int, measured: int) -> None:
    """Write the attributes' two files, with what each option was measured to do on so many other latents."""
    about: dict[str, Any] = {
        "source": "estimated by workers/avatar/house/attributes.py: linear probes on what reader.py sees",
        "samples": samples,
        "emphasis": EMPHASIS,
    }
    save_attributes(folder, vectors, options, about)
    controller = StyleController(AetheristGenerator.from_pretrained(folder))
    others = torch.randn(measured, heads.LATENT_DIM, generator=torch.Generator().manual_seed(8))
    about["measured on"] = measured
    about["effects, in standard deviations"] = effects(folder, controller, others)
    save_attributes(folder, vectors, options, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--measured", type=int, default=12, help="latents on which each option's effect is measured")
    parser.add_argument("--model", type=Path, default=MODEL)
    args = parser.parse_args()
    assert WEIGHTS.exists(), "train the reader first"
    latents = torch.randn(args.samples, heads.LATENT_DIM, generator=torch.Generator().manual_seed(7))
    vectors, options = estimate(latents, look(args.model, latents))
    save(args.model, vectors, options, args.samples, args.measured)


if __name__ == "__main__":
    main()
