"""Training a generator on pictures with cameras, in a folder that can be left and resumed at any step."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from workers.avatar.aetherist import checkpoints
from workers.avatar.aetherist.cameras import check_cameras, generate_camera_poses
from workers.avatar.aetherist.config import AetheristConfig
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.networks.discriminator import Discriminator
from workers.avatar.aetherist.networks.super_resolution import NoiseMode
from workers.avatar.aetherist.training import losses
from workers.avatar.aetherist.training.ema import HALF_LIFE, RAMP_UP, ExponentialMovingAverage
from workers.avatar.aetherist.training.log import TrainingLog

AVERAGE, DISCRIMINATOR = "ema.safetensors", "discriminator.safetensors"
OPTIMIZERS, STATE = "optimizers.safetensors", "state.yaml"
PREFIX, TEMPORARY, REPLACED = "checkpoint-", ".unfinished-", ".replaced-"
ARCHITECTURE = (
    "latent_dim",
    "triplane_dim",
    "triplane_res",
    "neural_renderer_layers",
    "super_resolution_layers",
    "resolution",
)
GRID = 4  # latents (rows) and views (columns) of a sample


class TrainingDiverged(RuntimeError):
    """A loss is no finite number any more. The weights are those of the step before."""


class Pictures(Protocol):
    """What is trained on; every item is {"image": [3, H, W] in [-1, 1], "camera": [25], optional "latent": [D]}."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Tensor]: ...


@dataclass
class TrainingSettings:
    """What a training needs beside the config. All periods are steps of the optimisers; 0 means never.

    A step sees `config.batch_size · accumulation_steps` pictures. `warmup_steps` raise the learning rate linearly; at
    each of `lr_decay_steps` it is multiplied by `lr_decay_gamma`. Penalties are taken every so many steps with
    their weight as many times as large (StyleGAN2's lazy regularisation). `ema_half_life` is in pictures. `workers` are
    processes that load data; with any, a data set that draws random numbers is not resumed exactly.
    """

    perceptual_weights: str | Path | None = None
    identity_weights: str | Path | None = None

    seed: int = 0
    accumulation_steps: int = 1
    warmup_steps: int = 1000
    lr_decay_steps: tuple[int, ...] = (50_000, 80_000)
    lr_decay_gamma: float = 0.5
    r1_every: int = 16
    gradient_penalty_every: int = 16
    path_length_every: int = 8
    noise_mode: NoiseMode = "random"
    mixed_dtype: Literal["bfloat16", "float16"] = "bfloat16"

    discriminator_base_channels: int = 64
    discriminator_max_channels: int = 512
    discriminator_scales: int = 3
    use_spectral_norm: bool = True

    ema_half_life: float = HALF_LIFE
    ema_ramp_up: float = RAMP_UP

    log_every: int = 1
    sample_every: int = 1000
    save_every: int = 1000
    keep: int = 3
    workers: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        self.lr_decay_steps = tuple(self.lr_decay_steps)
        for name, lowest in {"accumulation_steps": 1, "keep": 1}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}")
        for name in ("warmup_steps", "r1_every", "gradient_penalty_every", "path_length_every", "log_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


class Trainer:
    """Trains a generator against a discriminator and, where the data has latents, towards the pictures themselves.

    With latents the generator's picture of an item's latent from its camera is compared with the item's image: L1
    (`reconstruction_weight`), VGG-19 (`perceptual_weight`) and identity (`identity_weight`). Without latents nothing
    says which picture a latent should give: latents are random, only the adversarial terms train, and these three
    weights are not applicable, which the log notes. Both networks take their step from the same state, so that each
    picture is rendered once a step; all terms of a step are logged unweighted.

    Everything random comes from `settings.seed`; the caller's random state is left as it was. On a CPU two trainings
    of the same config, settings and data are equal to the last bit, however often they are interrupted.

    Args:
        config: the numbers; its learning rate, betas and weight decay are those of both Adams.
        dataset: see `Pictures`. folder: gets `log.jsonl`, `samples/STEP.png` and `checkpoint-STEP/`.
        device: by default CUDA where there is some. generator: one to go on with, of the same architecture.

    Raises:
        ValueError: the data, the generator or a setting does not fit the config, or a loss with a weight above 0 lacks
            its file.
    """

    def __init__(
        self,
        config: AetheristConfig,
        dataset: Pictures,
        folder: str | Path,
        settings: TrainingSettings | None = None,
        device: torch.device | str | None = None,
        generator: AetheristGenerator | None = None,
    ) -> None:
        self.config, self.dataset, self.folder = config, dataset, Path(folder)
        self.settings = settings = settings or TrainingSettings()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.paired = _check_data(config, dataset)
        if not self.paired and config.adversarial_weight <= 0:
            raise ValueError("the data has no latents and adversarial_weight is 0: there is nothing to train with")
        if generator is not None:
            for name in ARCHITECTURE:
                if getattr(generator.config, name) != getattr(config, name):
                    raise ValueError(f"the generator's {name} is another than the config's")
        self._perceptual = self._identity = None
        if path := losses.required_file("perceptual", config.perceptual_weight, settings.perceptual_weights):
            self._perceptual = losses.PerceptualLoss(path).to(self.device)
        if path := losses.required_file("identity", config.identity_weight, settings.identity_weights):
            self._identity = losses.IdentityLoss(path).to(self.device)

        with self._seeded(settings.seed):
            self.generator = (generator or AetheristGenerator(config)).to(self.device).train()
            self.discriminator = Discriminator(
                base_channels=settings.discriminator_base_channels,
                max_channels=settings.discriminator_max_channels,
                num_scales=settings.discriminator_scales,
                use_spectral_norm=settings.use_spectral_norm,
            ).to(self.device)
            self.sample_latents = torch.randn(GRID, config.latent_dim)
            self._random_state = self._random_states()
        self.ema = ExponentialMovingAverage(self.generator, settings.ema_half_life, settings.ema_ramp_up)
        self.path_length = losses.PathLengthPenalty().to(self.device)
        self._draw: Callable[..., Tensor] = torch.compile(self.generator) if config.compile_model else self.generator

        betas, decay = (config.beta1, config.beta2), config.weight_decay
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), config.learning_rate, betas, weight_decay=decay)
            for name, network in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        self._dtype = getattr(torch, settings.mixed_dtype)
        scaled = config.mixed_precision and self._dtype == torch.float16
        if scaled and self.device.type != "cuda":
            raise ValueError("mixed_dtype float16 needs CUDA; bfloat16 works on the CPU too")
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.step = self.images = 0  # optimiser steps, and pictures seen

    def learning_rate(self, step: int) -> float:
        """Of the step after `step` steps: warm-up and decays, from the config's."""
        settings = self.settings
        warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        decays = sum(step >= at for at in settings.lr_decay_steps)
        return float(self.config.learning_rate * warm * settings.lr_decay_gamma**decays)

    def train(self, steps: int) -> dict[str, float]:
        """Train `steps` more steps, and save at the end.

        Returns:
            The unweighted losses of the last step.

        Raises:
            TrainingDiverged: a loss is not finite; the newest checkpoint is from before.
        """
        from tqdm import tqdm

        settings, found = self.settings, dict[str, float]()
        log = TrainingLog(self.folder / "log.jsonl")
        if self.step == 0:
            self._note_what_does_not_apply(log)
        per_step = settings.accumulation_steps
        order = _Order(len(self.dataset), self.config.batch_size, self.images, steps * per_step, settings.seed)
        batches = iter(
            DataLoader(
                cast("Dataset[Mapping[str, Tensor]]", self.dataset),
                batch_sampler=order,
                num_workers=settings.workers,
                generator=torch.Generator(),  # else the loader would draw from the training's own random numbers
            )
        )
        with (
            self._own_randomness(),
            tqdm(total=self.step + steps, initial=self.step, disable=not settings.progress, unit="step") as bar,
        ):
            for remaining in reversed(range(steps)):
                started, rate = time.perf_counter(), self.learning_rate(self.step)
                found = self._take_step(itertools.islice(batches, per_step), rate)
                self._random_state = self._random_states()
                if _due(self.step, settings.log_every):
                    log.write(self.step, found, rate, time.perf_counter() - started)
                bar.set_postfix({name: f"{value:.3g}" for name, value in found.items()}, refresh=False)
                bar.update()
                if _due(self.step, settings.sample_every):
                    self.sample(self.folder / "samples" / f"{self.step}.png")
                if remaining == 0 or _due(self.step, settings.save_every):
                    self.save()
        return found

    def _take_step(self, batches: Iterator[Mapping[str, Tensor]], rate: float) -> dict[str, float]:
        config, settings = self.config, self.settings
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        totals: dict[str, Tensor] = {}
        seen = 0
        for batch in batches:
            images, cameras = batch["image"].to(self.device), batch["camera"].to(self.device)
            if self.paired:
                latents = batch["latent"].to(self.device)
            else:
                latents = torch.randn(len(images), config.latent_dim, device=self.device)
            fake, found = self._generator_gradients(images, cameras, latents)
            if config.adversarial_weight > 0:
                found |= self._discriminator_gradients(images, cameras, fake)
            for name, value in found.items():
                totals[name] = totals.get(name, 0) + value.detach().float() / settings.accumulation_steps
            seen += len(images)
        values = dict(zip(totals, torch.stack(list(totals.values())).tolist(), strict=True))
        for name, value in values.items():
            if not abs(value) < float("inf"):
                raise TrainingDiverged(f"step {self.step + 1}: the loss {name} is {value}")
        for name, optimizer in self.optimizers.items():
            if name == "generator" or config.adversarial_weight > 0:
                self._scaler.step(optimizer)
        self._scaler.update()
        self.ema.update(self.generator, seen, self.images)
        self.step, self.images = self.step + 1, self.images + seen
        return values

    def _generator_gradients(
        self, images: Tensor, cameras: Tensor, latents: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds to the generator's gradients; its pictures, detached, and its terms."""
        config, settings = self.config, self.settings
        terms: dict[str, tuple[float, Tensor]] = {}
        with self._autocast():
            fake = self._draw(latents, cameras, noise_mode=settings.noise_mode).float()
            if config.adversarial_weight > 0:
                self.discriminator.requires_grad_(False)
                judged = self.discriminator(fake, cameras)
                self.discriminator.requires_grad_(True)
                terms["generator"] = config.adversarial_weight, losses.generator_loss(judged.float())
            if self.paired and config.reconstruction_weight > 0:
                terms["reconstruction"] = config.reconstruction_weight, losses.reconstruction_loss(fake, images)
            if self.paired and self._perceptual:
                terms["perceptual"] = config.perceptual_weight, self._perceptual(fake, images)
            if self.paired and self._identity:
                terms["identity"] = config.identity_weight, self._identity(fake, images)
        every = settings.path_length_every
        if config.path_length_penalty > 0 and _due(self.step, every):
            # On half the batch, as StyleGAN2, in full precision; not compiled, since that has no second derivative.
            w = self.generator.mapping(latents[: (len(latents) + 1) // 2])
            penalty = self.path_length(self.generator.synthesis(w), w)
            terms["path_length"] = config.path_length_penalty * every, penalty
        self._add_gradients(terms)
        return fake.detach(), {name: value for name, (_, value) in terms.items()}

    def _discriminator_gradients(self, images: Tensor, cameras: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Adds to the discriminator's gradients; its terms. Penalties are taken in full precision."""
        config, settings = self.config, self.settings
        terms: dict[str, tuple[float, Tensor]] = {}
        with self._autocast():
            real, made = self.discriminator(images, cameras), self.discriminator(fake, cameras)
            value = losses.discriminator_loss(real.float(), made.float())
            terms["discriminator"] = config.adversarial_weight, value
        if config.r1_penalty > 0 and _due(self.step, every := settings.r1_every):
            terms["r1"] = config.r1_penalty / 2 * every, losses.r1_penalty(self.discriminator, images, cameras)
        if config.gradient_penalty > 0 and _due(self.step, every := settings.gradient_penalty_every):
            value = losses.gradient_penalty(self.discriminator, images, fake, cameras)
            terms["gradient_penalty"] = config.gradient_penalty * every, value
        self._add_gradients(terms)
        return {name: value for name, (_, value) in terms.items()}

    def _add_gradients(self, terms: dict[str, tuple[float, Tensor]]) -> None:
        if terms:
            total = torch.stack([weight * value for weight, value in terms.values()]).sum()
            self._scaler.scale(total / self.settings.accumulation_steps).backward()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self.config.mixed_precision)

    def _note_what_does_not_apply(self, log: TrainingLog) -> None:
        names = ("reconstruction_weight", "perceptual_weight", "identity_weight")
        idle = [name for name in names if getattr(self.config, name) > 0]
        if idle and not self.paired:
            log.note(
                self.step, f"the data has no latents: {', '.join(idle)} do not apply, only adversarial terms train"
            )

    def sample(self, path: str | Path) -> None:
        """Draw the average generator as PNG: four fixed latents (rows) from four views of the config's ranges."""
        from PIL import Image

        config, generator = self.config, self.ema.average
        cameras = generate_camera_poses(
            GRID, config.camera_radius, config.elevation_range, config.azimuth_range, self.device
        )
        rows = []
        with torch.no_grad(), self._autocast():
            for latent in self.sample_latents.to(self.device):
                planes = generator.planes(latent[None])
                views = [generator.view(planes, camera[None]).image[0].float() for camera in cameras]
                rows.append(torch.cat(views, 2))
        grid = ((torch.cat(rows, 1).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().contiguous()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (grid.shape[1], grid.shape[0]), grid.numpy().tobytes()).save(path, "PNG")

    def export(self, folder: str | Path) -> None:
        """Write the average generator as a folder for `AetheristGenerator.from_pretrained`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.save(folder / checkpoints.CONFIG)
        checkpoints.save_network(self.ema.average, folder / checkpoints.GENERATOR)

    def save(self) -> Path:
        """Write `checkpoint-STEP/` and remove all but the newest before it; what is there is always complete.

        `from_pretrained` reads such a folder too (as the generator itself; `export` writes its average). There are no
        pickles: tensors are safetensors, all else is YAML.
        """
        import yaml

        target = self.folder / f"{PREFIX}{self.step}"
        _tidy(self.folder)
        unfinished = self.folder / f"{TEMPORARY}{self.step}"
        unfinished.mkdir(parents=True)
        self.config.save(unfinished / checkpoints.CONFIG)
        checkpoints.save_network(self.generator, unfinished / checkpoints.GENERATOR)
        checkpoints.save_network(self.ema.average, unfinished / AVERAGE)
        checkpoints.save_network(self.discriminator, unfinished / DISCRIMINATOR)
        state = {
            "format": 1,
            "step": self.step,
            "images": self.images,
            "path_length_mean": self.path_length.mean.item(),
            "settings": {
                name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self.settings).items()
            },
            "scaler": self._scaler.state_dict(),
            "random": {
                name: base64.b64encode(value.numpy().tobytes()).decode() for name, value in self._random_state.items()
            },
            "optimizers": _save_optimizers(self.optimizers, unfinished / OPTIMIZERS),
        }
        (unfinished / STATE).write_text(yaml.safe_dump(state, sort_keys=False))
        for file in [*unfinished.iterdir(), unfinished]:
            _flush(file)
        if target.exists():
            target.rename(self.folder / f"{REPLACED}{self.step}")
        unfinished.rename(target)
        _flush(self.folder)
        shutil.rmtree(self.folder / f"{REPLACED}{self.step}", ignore_errors=True)
        older = [step for step in saved_steps(self.folder) if step <= self.step]
        for step in older[: -self.settings.keep]:
            shutil.rmtree(self.folder / f"{PREFIX}{step}")
        return target

    def resume(self, path: str | Path | None = None) -> int:
        """Go on from a checkpoint, by default the one of the highest step in the folder.

        With the same config, settings and data the training then takes the steps that it would have taken.

        Returns:
            The step, or 0 where the folder has no checkpoint yet.

        Raises:
            FileNotFoundError: `path` is no checkpoint. ValueError: it is one of another architecture.
        """
        import yaml

        if path is None:
            _tidy(self.folder)
            if not (steps := saved_steps(self.folder)):
                return 0
            path = self.folder / f"{PREFIX}{steps[-1]}"
        folder = Path(path)
        state = yaml.safe_load((folder / STATE).read_text())
        saved = AetheristConfig.load(folder / checkpoints.CONFIG)
        for name in ARCHITECTURE:
            if getattr(saved, name) != getattr(self.config, name):
                raise ValueError(f"{folder} has {name} {getattr(saved, name)}, not {getattr(self.config, name)}")
        checkpoints.load_network(self.generator, folder / checkpoints.GENERATOR)
        checkpoints.load_network(self.ema.average, folder / AVERAGE)
        checkpoints.load_network(self.discriminator, folder / DISCRIMINATOR)
        _load_optimizers(self.optimizers, state["optimizers"], folder / OPTIMIZERS)
        self.path_length.mean.fill_(state["path_length_mean"])
        if state["scaler"] and self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        for name, text in state["random"].items():
            self._random_state[name] = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        self.step, self.images = state["step"], state["images"]
        return self.step

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """The training's random numbers inside, the caller's outside. A step that failed leaves no trace in them."""
        with self._seeded(0):
            torch.set_rng_state(self._random_state["cpu"])
            if self.device.type == "cuda" and "cuda" in self._random_state:
                torch.cuda.set_rng_state(self._random_state["cuda"], self.device)
            yield

    def _random_states(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states


class _Order(Sampler[list[int]]):
    """Batches of places in the data: one shuffled pass after another, from the picture `start` on."""

    def __init__(self, length: int, batch: int, start: int, batches: int, seed: int) -> None:
        self._length, self._batch, self._start, self._batches, self._seed = length, batch, start, batches, seed

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        places = self._places()
        for _ in range(self._batches):
            yield list(itertools.islice(places, self._batch))

    def _places(self) -> Iterator[int]:
        begun, skip = divmod(self._start, self._length)
        for number in itertools.count(begun):
            shuffle = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
            yield from torch.randperm(self._length, generator=shuffle).tolist()[skip:]
            skip = 0


def saved_steps(folder: str | Path) -> list[int]:
    """The steps of the checkpoints in a training's folder, rising."""
    names = (path.name.removeprefix(PREFIX) for path in Path(folder).glob(f"{PREFIX}*"))
    return sorted(int(name) for name in names if name.isdigit())


def _tidy(folder: Path) -> None:
    """Remove what an interrupted `save` left, and put back what it was about to replace."""
    for replaced in folder.glob(f"{REPLACED}*"):
        target = folder / f"{PREFIX}{replaced.name.removeprefix(REPLACED)}"
        shutil.rmtree(replaced) if target.exists() else replaced.rename(target)
    for unfinished in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(unfinished)


def _check_data(config: AetheristConfig, dataset: Pictures) -> bool:
    """Whether the data has latents; ValueError if its first item does not fit the config."""
    if len(dataset) == 0:
        raise ValueError("the data set is empty")
    item = dataset[0]
    shapes = {"image": [3, config.resolution, config.resolution], "camera": [25], "latent": [config.latent_dim]}
    for name, shape in shapes.items():
        if name != "latent" and name not in item:
            raise ValueError(f"an item of the data set lacks its {name}")
        if name in item and list(item[name].shape) != shape:
            raise ValueError(f"an item's {name} must be {shape}, not {list(item[name].shape)}")
    if item["image"].amin() < -1.01 or item["image"].amax() > 1.01:
        raise ValueError("images must lie in [-1, 1]")
    check_cameras(item["camera"][None])
    return "latent" in item


def _save_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], path: Path) -> dict[str, Any]:
    """Write the optimisers' tensors as `NAME.PARAMETER.KEY`; what they have beside them, for YAML."""
    from safetensors.torch import save_file

    tensors, groups = dict[str, Tensor](), dict[str, Any]()
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        for index, values in state["state"].items():
            tensors |= {f"{name}.{index}.{key}": value.cpu().contiguous() for key, value in values.items()}
        groups[name] = [
            {key: list(value) if isinstance(value, tuple) else value for key, value in group.items()}
            for group in state["param_groups"]
        ]
    save_file(tensors, path)
    return groups


def _load_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], groups: Mapping[str, list[dict[str, Any]]], path: Path
) -> None:
    from safetensors.torch import load_file

    states: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in optimizers}
    for key, value in load_file(path).items():
        name, index, part = key.split(".")
        states[name].setdefault(int(index), {})[part] = value
    for name, optimizer in optimizers.items():
        restored = [{**group, "betas": tuple(group["betas"])} for group in groups[name]]
        optimizer.load_state_dict({"state": states[name], "param_groups": restored})


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _flush(path: Path) -> None:
    """Bring a file or folder to the disk, so that the renaming cannot overtake it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
