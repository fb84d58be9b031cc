"""Many pictures: in batches, and as data sets on disk.

A data set is a folder. All of it follows from its configuration and the seed, sample by sample, so that an interrupted
run goes on where it stopped and a finished one can be made longer:

    dataset.yaml         the configuration, with a fingerprint of the generator's weights
    samples.safetensors  latents [N, D] and cameras [N, 25]
    images/000000.png    one picture a sample; a file that is there is whole
    labels.jsonl         a line a sample: file, seed, attributes; written last, so it lists what exists
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from workers.avatar.aetherist.cameras import RADIUS, TAU, camera_from_angles, unpack_cameras
from workers.avatar.aetherist.images import pil_to_tensor, save_image

if TYPE_CHECKING:
    from PIL import Image

    from workers.avatar.aetherist.generator import AetheristGenerator

CONFIG, SAMPLES, LABELS, IMAGES = "dataset.yaml", "samples.safetensors", "labels.jsonl", "images"
CAMERA_DEFAULTS: dict[str, Any] = {
    "radius": RADIUS,
    "elevation_range": (-0.25, 0.25),
    "azimuth_range": (0.0, TAU),
    "seed": 0,
}
SAME = 1e-4  # latents and cameras of one configuration differ by less than this between machines

Attributes = dict[str, str]
AttributesConfig = Mapping[str, str | Sequence[str]]
CameraSettings = Mapping[str, Any]


class BatchProcessor:
    """Draws lists of any length, `batch_size` pictures at a time, in order.

    Args:
        generator: moved to `device` if one is given; drawn with in evaluation mode, its mode is then put back.
        batch_size: pictures at a time. num_workers: threads that write files.
    """

    def __init__(
        self,
        generator: AetheristGenerator,
        batch_size: int = 8,
        device: torch.device | str | None = None,
        num_workers: int = 4,
    ) -> None:
        if batch_size < 1 or num_workers < 1:
            raise ValueError("batch_size and num_workers must be at least 1")
        self.generator = generator if device is None else generator.to(device)
        self.batch_size, self.num_workers = batch_size, num_workers

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.generator.parameters()).device

    def process_latent_batch(self, latent_codes: Tensor, camera_params: Tensor, **kw: Any) -> list[Tensor]:
        """Pictures of latents.

        Args:
            latent_codes: [N, latent_dim]. camera_params: [N, 25], or [1, 25] for all.
            kw: `truncation_psi` and `noise_mode`, as for the generator.

        Returns:
            N tensors [3, H, W] on the CPU, about [-1, 1].

        Raises:
            ValueError: a shape is wrong.
        """
        return [picture for batch in self._draw(latent_codes, camera_params, **kw) for picture in batch]

    def process_attribute_batch(self, attributes_list: Sequence[Attributes], camera_params: Tensor) -> list[Tensor]:
        """Pictures of heads with these attributes, as `process_latent_batch`; the seed of each is its place."""
        if not attributes_list:
            return []
        latents = self._encode(attributes_list, range(len(attributes_list)))
        return self.process_latent_batch(latents, camera_params)

    def process_style_transfer_batch(
        self, latent_codes: Tensor, style_images: Sequence[Image.Image], camera_params: Tensor
    ) -> list[Tensor]:
        """Pictures of latents in the style of others, as `process_latent_batch`, but drawn one by one: each head has
        a transform of its own.

        Args:
            latent_codes: [N, latent_dim]. style_images: N images, or one for all. camera_params: [N, 25], or [1, 25]
                for all.

        Returns:
            N tensors [3, H, W] on the CPU, about [-1, 1].

        Raises:
            ValueError: a shape is wrong, or there are neither N images nor one.
        """
        from workers.avatar.aetherist.style import StyleTransfer

        count = len(latent_codes)
        cameras = _cameras_for(camera_params, count)
        if len(style_images) not in (1, count):
            raise ValueError(f"{len(style_images)} style images for {count} latents")
        images = style_images if len(style_images) == count else list(style_images) * count
        with _evaluating(self.generator), torch.no_grad():
            style = StyleTransfer(self.generator)
            return [
                style.transfer(latent[None].to(self.device), image, camera[None].to(self.device))[0].cpu()
                for latent, image, camera in zip(latent_codes, images, cameras, strict=True)
            ]

    def generate_dataset(
        self,
        num_samples: int,
        output_dir: str | Path,
        attributes_config: AttributesConfig | None = None,
        camera_config: CameraSettings | None = None,
    ) -> AvatarDataset:
        """Draw a data set into a folder (see the top of this file), or go on with the one that is there.

        Args:
            num_samples: at least as many as the folder's data set has.
            attributes_config: such as {"age": ["young", "elderly"], "expression": "smile"}; one of a list is drawn
                for each sample. Without attributes the latents are normal.
            camera_config: `radius`, `elevation_range` and `azimuth_range` (radians, uniform), `seed` of all that is
                drawn (0).

        Raises:
            ValueError: an unknown key, a value that is none, or a folder with another data set; nothing is written.
        """
        if num_samples < 1:
            raise ValueError("num_samples must be at least 1")
        folder = Path(output_dir)
        choices, camera = _attribute_choices(attributes_config or {}), _camera_settings(camera_config or {})
        config = {
            "num_samples": num_samples,
            "resolution": self.generator.config.resolution,
            "generator": fingerprint(self.generator),
            "attributes": choices,
            "camera": camera,
        }
        _check_same(folder, config)
        plans = [_Plan.draw(n, choices, camera) for n in range(num_samples)]
        samples = {"latents": self._latents(plans), "cameras": torch.cat([plan.camera for plan in plans])}
        _check_prefix(folder, samples)
        folder.mkdir(parents=True, exist_ok=True)
        _write_plan(folder, config, samples)
        (folder / IMAGES).mkdir(exist_ok=True)
        self._draw_missing(folder, plans, samples)
        _write(folder / LABELS, "".join(json.dumps(plan.label) + "\n" for plan in plans).encode())
        return AvatarDataset(folder)

    def _draw(self, latent_codes: Tensor, camera_params: Tensor, **kw: Any) -> Iterator[Tensor]:
        """Batches [≤ batch_size, 3, H, W] on the CPU."""
        cameras = _cameras_for(camera_params, len(latent_codes))
        with _evaluating(self.generator), torch.no_grad():
            for latents, places in zip(
                latent_codes.split(self.batch_size), cameras.split(self.batch_size), strict=True
            ):
                if len(latents):
                    yield self.generator(latents.to(self.device), places.to(self.device), **kw).cpu()

    def _encode(self, attributes: Sequence[Attributes], seeds: Sequence[int]) -> Tensor:
        from workers.avatar.aetherist.attributes import StyleController

        with _evaluating(self.generator):
            controller = StyleController(self.generator)
            codes = [controller.encode_attributes(a, seed=seed) for a, seed in zip(attributes, seeds, strict=True)]
        return torch.cat(codes).detach().cpu()

    def _latents(self, plans: Sequence[_Plan]) -> Tensor:
        if plans[0].attributes:
            return self._encode([plan.attributes for plan in plans], [plan.seed for plan in plans]).float()
        size = self.generator.config.latent_dim
        return torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(plan.seed)) for plan in plans])

    def _draw_missing(self, folder: Path, plans: Sequence[_Plan], samples: Mapping[str, Tensor]) -> None:
        missing = [n for n, plan in enumerate(plans) if not (folder / plan.file).exists()]
        if not missing:
            return
        batches = self._draw(samples["latents"][missing], samples["cameras"][missing])
        with ThreadPoolExecutor(self.num_workers) as threads:
            writing: list[Future[None]] = []
            paths = iter([folder / plans[n].file for n in missing])
            for batch in batches:
                for done in writing:  # of the batch before: one is drawn while one is written
                    done.result()
                writing = [threads.submit(_write_picture, picture, next(paths)) for picture in batch]
            for done in writing:
                done.result()


class AvatarDataset(Dataset[dict[str, Any]]):
    """What `generate_dataset` wrote; FileNotFoundError if the folder holds no finished data set.

    Items are {"image": [3, H, W] in [-1, 1], "camera": [25], "latent": [D], "attributes": dict}.
    """

    def __init__(self, folder: str | Path) -> None:
        from safetensors.torch import load_file

        self.folder = Path(folder)
        self.labels = [json.loads(line) for line in (self.folder / LABELS).read_text().splitlines()]
        samples = load_file(self.folder / SAMPLES)
        self.latents, self.cameras = samples["latents"], samples["cameras"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        from PIL import Image

        index = range(len(self))[index]  # of the labels: while a data set grows there are more latents
        label = self.labels[index]
        with Image.open(self.folder / label["file"]) as image:
            picture = pil_to_tensor(image)
        return {
            "image": picture,
            "camera": self.cameras[index],
            "latent": self.latents[index],
            "attributes": label["attributes"],
        }


def fingerprint(network: nn.Module) -> str:
    """16 hexadecimal digits of the SHA-256 of a network's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Plan:
    """One sample before it is drawn; `camera` is [1, 25]."""

    file: str
    seed: int
    attributes: Attributes
    camera: Tensor

    @classmethod
    def draw(cls, index: int, choices: Mapping[str, str | list[str]], camera: CameraSettings) -> _Plan:
        """Sample `index` depends on its index and the seed alone, not on how many there are."""
        dice = random.Random(f"{camera['seed']} {index}")
        seed = dice.getrandbits(48)
        azimuth, elevation = dice.uniform(*camera["azimuth_range"]), dice.uniform(*camera["elevation_range"])
        angles = torch.tensor([[azimuth], [elevation], [camera["radius"]]])
        attributes = {name: one if isinstance(one, str) else dice.choice(one) for name, one in choices.items()}
        return cls(f"{IMAGES}/{index:06}.png", seed, attributes, camera_from_angles(*angles))

    @property
    def label(self) -> dict[str, Any]:
        return {"file": self.file, "seed": self.seed, "attributes": self.attributes}


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def _cameras_for(cameras: Tensor, count: int) -> Tensor:
    unpack_cameras(cameras)
    if len(cameras) not in (1, count):
        raise ValueError(f"{len(cameras)} cameras for {count} latents")
    return cameras.expand(count, 25)


def _attribute_choices(config: AttributesConfig) -> dict[str, str | list[str]]:
    """Names are judged by the controller that encodes them, values here only by their form."""
    choices: dict[str, str | list[str]] = {}
    for name, value in config.items():
        values = [value] if isinstance(value, str) else list(value)
        if not values or not all(isinstance(one, str) for one in values):
            raise ValueError(f"{name} must be a word or a list of words")
        choices[name] = value if isinstance(value, str) else values
    return choices


def _camera_settings(config: CameraSettings) -> dict[str, Any]:
    if unknown := set(config) - set(CAMERA_DEFAULTS):
        raise ValueError(f"unknown keys of camera_config: {', '.join(sorted(map(str, unknown)))}")
    settings = CAMERA_DEFAULTS | dict(config)
    radius, seed = float(settings["radius"]), int(settings["seed"])
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError("radius must be positive")
    ranges = {}
    for name in ("elevation_range", "azimuth_range"):
        low, high = map(float, settings[name])
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"{name} must run from low to high")
        ranges[name] = [low, high]
    return {"radius": radius, **ranges, "seed": seed}


def _check_same(folder: Path, config: Mapping[str, Any]) -> None:
    import yaml

    if not (folder / CONFIG).exists():
        if (folder / LABELS).exists() or (folder / IMAGES).exists():
            raise ValueError(f"{folder} has pictures, but no {CONFIG} that says what they are")
        return
    there = yaml.safe_load((folder / CONFIG).read_text())
    if differing := [key for key in config if key != "num_samples" and there.get(key) != config[key]]:
        raise ValueError(f"{folder} holds another data set: it differs in {', '.join(differing)}")
    if there["num_samples"] > config["num_samples"]:
        raise ValueError(f"{folder} holds {there['num_samples']} samples already")


def _check_prefix(folder: Path, samples: Mapping[str, Tensor]) -> None:
    """The same configuration can give other latents: attributes are encoded by more than the generator."""
    from safetensors.torch import load_file

    there = load_file(folder / SAMPLES) if (folder / SAMPLES).exists() else {}
    for name, values in there.items():
        if not torch.allclose(values, samples[name][: len(values)], atol=SAME):
            raise ValueError(f"{folder} holds another data set: its {name} differ")


def _write_plan(folder: Path, config: Mapping[str, Any], samples: Mapping[str, Tensor]) -> None:
    import yaml
    from safetensors.torch import save

    _write(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False).encode())
    _write(folder / SAMPLES, save(dict(samples)))


def _write_picture(picture: Tensor, path: Path) -> None:
    part = path.with_suffix(".part")
    save_image(picture, part)
    part.replace(path)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)
