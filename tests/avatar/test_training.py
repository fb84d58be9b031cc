"""Training: losses against hand-made values, exact resumption, the average, the log, and checkpoints that survive."""

from __future__ import annotations

import dataclasses
import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from workers.avatar.aetherist import checkpoints
from workers.avatar.aetherist.cameras import CameraConfig, generate_camera_poses
from workers.avatar.aetherist.config import AetheristConfig
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.networks.discriminator import Discriminator
from workers.avatar.aetherist.training import (
    ExponentialMovingAverage,
    IdentityLoss,
    IdentityNetwork,
    PathLengthPenalty,
    PerceptualLoss,
    Trainer,
    TrainingDiverged,
    TrainingLog,
    TrainingSettings,
    VGG19Features,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    path_lengths,
    plot_log,
    r1_penalty,
    read_log,
    reconstruction_loss,
)

TINY = AetheristConfig(
    latent_dim=16,
    triplane_dim=9,
    triplane_res=8,
    neural_renderer_layers=2,
    super_resolution_layers=1,
    resolution=16,
    coarse_samples=4,
    importance_samples=4,
    batch_size=2,
    mixed_precision=False,
    perceptual_weight=0,
    identity_weight=0,
)
SETTINGS = TrainingSettings(
    warmup_steps=0,
    discriminator_base_channels=4,
    discriminator_max_channels=8,
    r1_every=2,
    gradient_penalty_every=3,
    path_length_every=2,
    sample_every=0,
    save_every=0,
    progress=False,
)
ONLY_PICTURES: dict[str, Any] = {"adversarial_weight": 0, "path_length_penalty": 0}


class Heads:
    """Four coloured pictures with cameras, with or without latents."""

    def __init__(self, paired: bool = True) -> None:
        made = torch.Generator().manual_seed(1)
        colours = torch.rand(4, 3, 1, 1, generator=made) * 2 - 1
        shade = torch.linspace(0.3, 1, 16)[None, None, :, None]
        self.images = (colours * shade).expand(4, 3, 16, 16).contiguous()
        self.cameras = generate_camera_poses(4)
        self.latents = torch.randn(4, 16, generator=made)
        self.paired = paired

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = {"image": self.images[index], "camera": self.cameras[index]}
        return {**item, "latent": self.latents[index]} if self.paired else item


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer in `tmp_path/folder`; a keyword is a field of the settings or else of the config."""

    def make(folder: str = "run", data: Any = None, generator: Any = None, **changes: Any) -> Trainer:
        ours = {field.name for field in dataclasses.fields(TrainingSettings)}
        settings = dataclasses.replace(SETTINGS, **{k: v for k, v in changes.items() if k in ours})
        config = dataclasses.replace(TINY, **{k: v for k, v in changes.items() if k not in ours})
        return Trainer(config, data or Heads(), tmp_path / folder, settings, "cpu", generator)

    return make


def state(training: Trainer) -> dict[str, Tensor]:
    parts = {"g": training.generator, "d": training.discriminator, "e": training.ema.average}
    return {f"{n}.{k}": v.clone() for n, network in parts.items() for k, v in network.state_dict().items()}


def numbers(training: Trainer) -> list[tuple[int, dict[str, float]]]:
    return [(r["step"], r["losses"]) for r in read_log(training.folder / "log.jsonl") if "note" not in r]


# Losses


def test_the_hinge_has_its_values_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    assert discriminator_loss(real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0 + 2) / 2)
    assert generator_loss(fake).item() == pytest.approx(1.0)


def test_the_reconstruction_is_l1_and_refuses_to_broadcast() -> None:
    assert reconstruction_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), -0.5)).item() == 0.5
    with pytest.raises(ValueError, match="cannot be compared"):
        reconstruction_loss(torch.zeros(2, 3, 2, 2), torch.zeros(1, 3, 2, 2))


def test_r1_is_the_squared_slope_at_every_real_picture() -> None:
    k = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def judge(images: Tensor, _: Tensor) -> Tensor:  # Σ_c k_c x_c² / 2: its slope is k_c x_c
        return (k[:, None, None] * images.square() / 2).sum((1, 2, 3))[:, None]

    images = torch.stack([torch.ones(3, 1, 1), 2 * torch.ones(3, 1, 1)])
    penalty = r1_penalty(judge, images, torch.zeros(2, 25))
    assert penalty.item() == pytest.approx((14 + 4 * 14) / 2)
    penalty.backward()
    assert k.grad is not None
    assert torch.allclose(k.grad, 2 * k.detach() * 2.5)


def test_the_gradient_penalty_is_taken_between_real_and_fake() -> None:
    def judge(images: Tensor, _: Tensor) -> Tensor:  # its slope is x
        return images.square().sum((1, 2, 3)) / 2

    real, fake, mix = torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 4.0), torch.tensor([0.25, 0.75])
    penalty = gradient_penalty(judge, real, fake, torch.zeros(2, 25), mix[:, None, None, None])
    assert penalty.item() == pytest.approx(((1 - 1) ** 2 + (3 - 1) ** 2) / 2)


def test_path_length_is_that_of_a_known_jacobian_and_its_mean_moves() -> None:
    matrix = torch.randn(5, 8)
    w, noise = torch.randn(3, 5, requires_grad=True), torch.randn(3, 2, 2, 2)
    expected = (noise.flatten(1) @ matrix.T).norm(dim=1)
    assert torch.allclose(path_lengths((w @ matrix).reshape(3, 2, 2, 2), w, noise), expected)

    penalty = PathLengthPenalty()
    value = penalty((w @ matrix).reshape(3, 2, 2, 2), w, noise)
    assert penalty.mean.item() == pytest.approx(0.01 * expected.mean().item())
    assert value.item() == pytest.approx((expected - penalty.mean).square().mean().item())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_path_length_reaches_the_synthesis_network(checkpointing: bool) -> None:
    generator = AetheristGenerator(dataclasses.replace(TINY, gradient_checkpointing=checkpointing))
    w = generator.mapping(torch.randn(2, 16))
    PathLengthPenalty()(generator.synthesis(w), w).backward()
    slope = generator.synthesis.blocks[0].convs[0].weight.grad  # type: ignore[union-attr, index]
    assert slope.abs().sum() > 0


@pytest.mark.parametrize(("name", "weight"), [("perceptual", 1), ("identity", 0.5)])
def test_a_loss_without_its_file_is_refused_by_name(trainer: Callable[..., Trainer], name: str, weight: float) -> None:
    message = (
        f"{name}_weight is {float(weight)}, but no {name}_weights file was given: "
        f"pass its path or set {name}_weight to 0"
    )
    with pytest.raises(ValueError, match=message):
        trainer(**{f"{name}_weight": weight})


def test_the_perceptual_loss_reads_a_file_of_torchvision_s_names(
    tmp_path: Path, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions = {0: (3, 64), 5: (64, 128), 10: (128, 256), 19: (256, 512), 28: (512, 512), 34: (512, 512)}
    names = VGG19Features().state_dict()
    assert len(names) == 26
    for number, (inputs, outputs) in convolutions.items():
        if number < 34:
            assert names[f"features.{number}.weight"].shape == (outputs, inputs, 3, 3)

    narrow = tuple((width // 32, count) for width, count in VGG19Features.BLOCKS)
    monkeypatch.setattr(VGG19Features, "BLOCKS", narrow)
    weights = {name: value.normal_() for name, value in VGG19Features().state_dict().items()}
    path = tmp_path / "vgg.safetensors"
    save_file({**weights, "features.34.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}, path)
    loss, picture = PerceptualLoss(path), torch.rand(1, 3, 16, 16, requires_grad=True)
    assert torch.equal(loss.network.features[0].weight, weights["features.0.weight"])
    assert loss(picture, picture).item() == 0
    loss(picture, -picture).backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert trainer(perceptual_weight=1, perceptual_weights=path).train(1)["perceptual"] > 0

    del weights["features.28.bias"]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"lacks features\.28\.bias"):
        PerceptualLoss(path)


def test_the_identity_loss_reads_its_own_network_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IdentityNetwork, "WIDTHS", (2, 2, 4, 4))
    path = tmp_path / "identity.safetensors"
    checkpoints.save_network(IdentityNetwork(), path)
    loss, picture, other = IdentityLoss(path), torch.rand(2, 3, 16, 16), -torch.rand(2, 3, 16, 16)
    assert loss.network(torch.rand(2, 3, 112, 112)).shape == (2, 512)
    assert loss(picture, picture).item() == pytest.approx(0, abs=1e-5)
    assert loss(picture, other).item() > 1e-3
    save_file({"something": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not fit"):
        IdentityLoss(path)


# The discriminator


@pytest.mark.parametrize("normalised", [True, False])
def test_every_number_of_the_discriminator_learns_and_is_saved(normalised: bool) -> None:
    discriminator = Discriminator(base_channels=4, max_channels=8, use_spectral_norm=normalised)
    names = {name for name, _ in discriminator.named_parameters()}
    logits = discriminator(torch.rand(2, 3, 32, 32), CameraConfig.create_orbit(num_views=2))
    assert logits.shape == (2, 3)
    (logits * torch.randn(2, 3)).sum().backward()
    lacking = [n for n, p in discriminator.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert lacking == []
    assert {name for name, _ in discriminator.named_parameters()} == names  # nothing was made by the first call
    assert names <= set(discriminator.state_dict())


def test_the_camera_and_each_scale_count() -> None:
    discriminator = Discriminator(base_channels=4, max_channels=8).eval()
    images = torch.rand(1, 3, 32, 32)
    front, side = CameraConfig.create_orbit(num_views=4)[:2].split(1)
    seen = discriminator(images, front)
    assert ((seen - discriminator(images, side)).abs() > 1e-6).all()
    stripes = images + torch.tensor([0.5, -0.5]).repeat(16)  # gone once the picture is halved
    changed = (discriminator(stripes, front) - seen).abs()[0]
    assert changed[0] > 1e-6
    assert (changed[1:] < 1e-6).all()


def test_spectral_norm_keeps_each_weight_s_largest_singular_value_at_one() -> None:
    discriminator = Discriminator(base_channels=4, max_channels=8)
    for _ in range(30):
        discriminator(torch.rand(1, 3, 16, 16), CameraConfig.create_front_view())
    weights = [m.weight for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert all(torch.linalg.matrix_norm(w.flatten(1), 2).item() == pytest.approx(1, abs=0.05) for w in weights)


def test_the_discriminator_refuses_shapes_by_name() -> None:
    discriminator = Discriminator(base_channels=4, max_channels=8)
    front = CameraConfig.create_front_view()
    with pytest.raises(ValueError, match="images must be"):
        discriminator(torch.rand(1, 1, 32, 32), front)
    with pytest.raises(ValueError, match="at least 8"):
        discriminator(torch.rand(1, 3, 4, 4), front)
    with pytest.raises(ValueError, match="cameras must be"):
        discriminator(torch.rand(2, 3, 32, 32), front)


# Training


def test_the_reconstruction_falls(trainer: Callable[..., Trainer]) -> None:
    training = trainer(learning_rate=1e-2, batch_size=4, **ONLY_PICTURES)
    training.train(30)
    course = [losses["reconstruction"] for _, losses in numbers(training)]
    assert len(course) == 30
    assert sum(course[-3:]) < 0.5 * sum(course[:3])


def test_all_terms_train_both_networks(trainer: Callable[..., Trainer]) -> None:
    training = trainer()
    before = state(training)
    found = training.train(1)
    terms = {"generator", "reconstruction", "path_length", "discriminator", "r1", "gradient_penalty"}
    assert set(found) == terms
    after = state(training)
    assert all(not torch.equal(before[n], after[n]) for n in before if n.endswith(("weight", "original")))
    # The discriminator's part of the generator's step must not stay in its own gradients.
    assert all(p.requires_grad for p in training.discriminator.parameters())


def test_a_resumed_training_equals_an_uninterrupted_one(trainer: Callable[..., Trainer]) -> None:
    whole = trainer("whole", sample_every=2)
    whole.train(7)
    first = trainer("parts")
    first.train(3)
    torch.rand(5)  # the caller's random numbers are no concern of the training
    second = trainer("parts")
    assert second.resume() == 3
    second.train(4)
    assert numbers(second) == numbers(whole)
    expected, found = state(whole), state(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert torch.equal(whole.path_length.mean, second.path_length.mean)


def test_training_leaves_the_caller_s_random_numbers_alone(trainer: Callable[..., Trainer]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer().train(1)
    assert torch.equal(torch.rand(3), expected)


def test_two_accumulated_batches_of_one_are_one_batch_of_two(trainer: Callable[..., Trainer]) -> None:
    found = []
    for name, batch, times in (("one", 2, 1), ("two", 1, 2)):
        training = trainer(name, batch_size=batch, accumulation_steps=times, noise_mode="none", **ONLY_PICTURES)
        training.generator.renderer.eval()  # no jitter of the samples
        training.train(3)
        assert training.images == 6
        found.append((dict(training.generator.named_parameters()), numbers(training)))
    (one, first), (two, second) = found
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a["reconstruction"] == pytest.approx(b["reconstruction"], rel=1e-4)


def test_pictures_without_latents_train_adversarially_and_the_log_says_so(trainer: Callable[..., Trainer]) -> None:
    training = trainer(data=Heads(paired=False))
    found = training.train(2)
    assert "reconstruction" not in found
    assert {"generator", "discriminator"} <= set(found)
    notes = [r["note"] for r in read_log(training.folder / "log.jsonl") if "note" in r]
    assert len(notes) == 1
    assert "reconstruction_weight do not apply" in notes[0]
    with pytest.raises(ValueError, match="nothing to train with"):
        trainer(data=Heads(paired=False), adversarial_weight=0)


def test_data_that_does_not_fit_is_refused(trainer: Callable[..., Trainer]) -> None:
    data = Heads()
    data.images = data.images[..., :8]
    with pytest.raises(ValueError, match=r"image must be \[3, 16, 16\]"):
        trainer(data=data)
    data = Heads()
    data.images = (data.images + 1) * 127.5
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        trainer(data=data)


def test_the_learning_rate_warms_up_and_decays(trainer: Callable[..., Trainer]) -> None:
    training = trainer(warmup_steps=1000, learning_rate=1.0)
    rates = [training.learning_rate(step) for step in (0, 499, 999, 49_999, 50_000, 80_000)]
    assert rates == pytest.approx([0.001, 0.5, 1, 1, 0.5, 0.25])
    training.train(1)
    assert {group["lr"] for o in training.optimizers.values() for group in o.param_groups} == {0.001}


def test_bfloat16_trains_in_full_precision_weights(trainer: Callable[..., Trainer]) -> None:
    training = trainer(mixed_precision=True)
    assert all(math.isfinite(value) for value in training.train(2).values())
    assert {p.dtype for p in training.generator.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="float16 needs CUDA"):
        trainer(mixed_precision=True, mixed_dtype="float16")


def test_compile_model_trains_the_compiled_generator(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compiled(network: nn.Module) -> Callable[..., Tensor]:
        return lambda *given, **options: calls.append(1) or network(*given, **options)

    monkeypatch.setattr(torch, "compile", compiled)
    trainer(compile_model=True).train(2)
    assert len(calls) == 2


def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt(trainer: Callable[..., Trainer]) -> None:
    data = Heads()
    training = trainer(data=data, **ONLY_PICTURES)
    training.train(1)
    data.images = data.images * torch.nan
    with pytest.raises(TrainingDiverged, match="step 2: the loss reconstruction is nan"):
        training.train(1)
    assert all(p.isfinite().all() for p in training.generator.parameters())


# The average


def test_the_average_follows_parameters_and_buffers() -> None:
    network = nn.BatchNorm1d(2)
    average = ExponentialMovingAverage(network, half_life=100, ramp_up=1)
    assert average.decay(100, 1000) == 0.5
    assert average.decay(100, 50) == 0.25
    assert average.decay(8, 0) == 0  # the first, random weights are forgotten at once
    with torch.no_grad():
        network.weight.fill_(3)
        network.running_mean.fill_(2)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    average.update(network, 100, 1000)
    assert average.average.weight.tolist() == [2, 2]
    assert average.average.running_mean.tolist() == [1, 1]  # type: ignore[union-attr]
    assert average.average.num_batches_tracked.item() == 7  # type: ignore[union-attr]
    assert not average.average.training
    assert not average.average.weight.requires_grad
    for _ in range(20):
        average.update(network, 100, 1000)
    assert torch.allclose(average.average.weight, network.weight, atol=1e-4)


# The log


def test_a_log_is_readable_after_a_crash_and_a_resumption(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    log = TrainingLog(path)
    log.note(0, "begun")
    for step in (1, 2, 3):
        log.write(step, {"l1": 1 / 3}, 1e-4, 0.5)
    with path.open("a") as file:
        file.write('{"step": 4, "los')
    log = TrainingLog(path)
    log.write(3, {"l1": 0.25}, 1e-4, 0.5)
    records = read_log(path)
    assert [r["step"] for r in records] == [0, 1, 2, 3]
    assert records[0]["note"] == "begun"
    assert records[1]["losses"]["l1"] == 1 / 3
    assert records[3] == {"step": 3, "learning_rate": 1e-4, "seconds": 0.5, "losses": {"l1": 0.25}}


def test_curves_are_drawn(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.jsonl")
    with pytest.raises(FileNotFoundError):
        plot_log(tmp_path / "log.jsonl", tmp_path / "log.png")
    log.note(0, "nothing yet")
    with pytest.raises(ValueError, match="no step"):
        plot_log(tmp_path / "log.jsonl", tmp_path / "log.png")
    for step in range(1, 50):
        log.write(step, {"falls": 1 / step} | ({"r1": 0.1} if step == 1 else {}), 1e-4, 0.1)
    plot_log(tmp_path / "log.jsonl", tmp_path / "log.png")
    picture = Image.open(tmp_path / "log.png").convert("RGB")
    panel = picture.crop((0, 0, picture.width, picture.height // 3))
    curve = [(x, y) for x in range(panel.width) for y in range(panel.height) if panel.getpixel((x, y)) == (31, 96, 176)]
    assert min(curve)[1] < panel.height / 4 < 3 * panel.height / 4 < max(curve)[1]  # it begins high and ends low


# Folders


def test_samples_are_grids_of_different_heads_and_views(trainer: Callable[..., Trainer]) -> None:
    training = trainer(sample_every=2, save_every=2, keep=3)
    training.train(9)
    samples = sorted(path.name for path in (training.folder / "samples").iterdir())
    assert samples == ["2.png", "4.png", "6.png", "8.png"]
    grid = Image.open(training.folder / "samples" / "8.png")
    assert grid.size == (64, 64)
    cells = {grid.crop((16 * x, 16 * y, 16 * x + 16, 16 * y + 16)).tobytes() for x in range(4) for y in range(4)}
    assert len(cells) == 16
    assert sorted(p.name for p in training.folder.glob("checkpoint-*")) == [
        "checkpoint-6",
        "checkpoint-8",
        "checkpoint-9",
    ]


def test_a_checkpoint_is_a_model_without_pickles(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    training = trainer()
    training.train(2)
    folder = training.folder / "checkpoint-2"
    assert {path.suffix for path in folder.iterdir()} == {".yaml", ".safetensors"}
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not content.startswith(b"PK")  # what torch.save writes
        with pytest.raises(ValueError):  # noqa: PT011 - whatever pickletools says of what is no pickle
            list(pickletools.genops(content))
    latent, front = torch.randn(1, 16), CameraConfig.create_front_view()
    again = AetheristGenerator.from_pretrained(folder)
    assert torch.equal(again(latent, front), training.generator.eval()(latent, front))
    training.export(tmp_path / "model")
    shown = AetheristGenerator.from_pretrained(tmp_path / "model")
    assert torch.equal(shown(latent, front), training.ema.average(latent, front))


def test_an_interrupted_save_leaves_the_older_checkpoint(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = trainer()
    training.train(1)
    written = []

    def fail_at_the_third(network: nn.Module, path: Path, *_: Any) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("no space left on device")
        path.write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_network", fail_at_the_third)
        with pytest.raises(OSError, match="no space"):
            training.train(1)
    again = trainer()
    assert again.resume() == 1
    again.train(1)
    assert sorted(path.name for path in training.folder.iterdir()) == ["checkpoint-1", "checkpoint-2", "log.jsonl"]
    assert [step for step, _ in numbers(again)] == [1, 2]
    # Killed between the two renamings that replace a checkpoint of the same step:
    (again.folder / "checkpoint-2").rename(again.folder / ".replaced-2")
    (again.folder / ".unfinished-2").mkdir()
    assert trainer().resume() == 2


def test_resuming_names_what_does_not_fit(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    assert trainer().resume() == 0
    trainer().train(1)
    with pytest.raises(ValueError, match="triplane_dim 9, not 12"):
        trainer(triplane_dim=12).resume()
    with pytest.raises(FileNotFoundError):
        trainer().resume(tmp_path / "nowhere")


def test_training_goes_on_from_a_given_generator(trainer: Callable[..., Trainer]) -> None:
    generator = AetheristGenerator(TINY)
    training = trainer(generator=generator, learning_rate=0.0)
    assert training.generator is generator
    with pytest.raises(ValueError, match="latent_dim"):
        trainer(generator=AetheristGenerator(dataclasses.replace(TINY, latent_dim=8)))
