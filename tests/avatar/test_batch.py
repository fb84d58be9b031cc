"""Batches equal what is drawn one by one; data sets come back as they were written and go on where they stopped."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.avatar.tiny import build, signature
from workers.avatar.aetherist import (
    AetheristGenerator,
    AvatarDataset,
    BatchProcessor,
    StyleController,
    StyleTransfer,
    UnknownAttribute,
    check_cameras,
    generate_camera_poses,
    pil_to_tensor,
    tensor_to_pil,
)
from workers.avatar.aetherist.attributes import save_attributes
from workers.avatar.aetherist.batch import fingerprint
from workers.avatar.aetherist.cameras import unpack_cameras

CAMERAS = generate_camera_poses(5)


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def processor(generator: AetheristGenerator) -> BatchProcessor:
    return BatchProcessor(generator, batch_size=2, num_workers=2)


@pytest.fixture
def named(folder: Path) -> BatchProcessor:
    """One of a model that knows an attribute."""
    options = {"age": {"young": [-1.5], "old": [1.5]}}
    save_attributes(folder, {"age": F.normalize(torch.ones(1, 32))}, options, about={})
    return BatchProcessor(AetheristGenerator.from_pretrained(folder), batch_size=2)


def assert_alike(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert [picture.shape for picture in found] == [(3, 32, 32)] * len(expected)
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(found, expected, strict=True))
    assert all((a - b).abs().mean() > 0.01 for a, b in zip(found, expected[1:], strict=False))  # the order counts


@torch.no_grad()
def one_by_one(generator: AetheristGenerator, latents: Tensor, cameras: Tensor, **kw: Any) -> list[Tensor]:
    return [generator(z[None], camera[None], **kw)[0] for z, camera in zip(latents, cameras, strict=True)]


def test_the_signatures_are_as_promised() -> None:
    assert signature(BatchProcessor) == "(generator, batch_size=8, device=None, num_workers=4)"
    assert signature(BatchProcessor.process_latent_batch) == "(latent_codes, camera_params, **kw)"
    assert signature(BatchProcessor.process_attribute_batch) == "(attributes_list, camera_params)"
    assert signature(BatchProcessor.process_style_transfer_batch) == "(latent_codes, style_images, camera_params)"
    assert signature(BatchProcessor.generate_dataset) == (
        "(num_samples, output_dir, attributes_config=None, camera_config=None)"
    )


# Pictures


def test_a_batch_equals_what_is_drawn_one_by_one(processor: BatchProcessor, latents: Tensor) -> None:
    processor.generator.train()
    found = processor.process_latent_batch(latents, CAMERAS)
    assert processor.generator.training  # its mode is put back, and its average did not move
    assert not processor.generator.mapping.w_avg.any()
    assert_alike(found, one_by_one(processor.generator.eval(), latents, CAMERAS))
    assert not any(picture.requires_grad for picture in found)


def test_one_camera_serves_all_and_options_are_passed_on(processor: BatchProcessor, latents: Tensor) -> None:
    found = processor.process_latent_batch(latents, CAMERAS[:1], noise_mode="none", truncation_psi=0.9)
    expected = one_by_one(
        processor.generator, latents, CAMERAS[:1].expand(5, 25), noise_mode="none", truncation_psi=0.9
    )
    assert_alike(found, expected)


def test_no_heads_are_no_pictures(processor: BatchProcessor) -> None:
    assert processor.process_latent_batch(torch.zeros(0, 32), CAMERAS[:1]) == []
    assert processor.process_attribute_batch([], CAMERAS) == []
    assert processor.process_style_transfer_batch(torch.zeros(0, 32), [], CAMERAS[:1]) == []


def test_attributes_are_drawn_with_their_place_as_seed(named: BatchProcessor) -> None:
    wanted = [{"age": "young"}, {"age": "old"}, {}]
    controller = StyleController(named.generator)
    latents = torch.cat([controller.encode_attributes(one, seed=n) for n, one in enumerate(wanted)])
    found = named.process_attribute_batch(wanted, CAMERAS[:1])
    assert_alike(found, one_by_one(named.generator, latents, CAMERAS[:1].expand(3, 25)))


def test_every_head_gets_its_own_style(processor: BatchProcessor, latents: Tensor) -> None:
    styles = [Image.effect_noise((32, 32), 80).convert("RGB"), Image.new("RGB", (8, 8), "teal")]
    style = StyleTransfer(processor.generator)
    for images in (styles, styles[:1]):
        found = processor.process_style_transfer_batch(latents[:2], images, CAMERAS[:2])
        each = [style.transfer(latents[n : n + 1], images[n % len(images)], CAMERAS[n : n + 1])[0] for n in range(2)]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, each, strict=True))


def test_what_does_not_fit_is_refused(processor: BatchProcessor, latents: Tensor) -> None:
    with pytest.raises(ValueError, match="3 cameras for 5 latents"):
        processor.process_latent_batch(latents, CAMERAS[:3])
    with pytest.raises(ValueError, match="2 style images for 5 latents"):
        processor.process_style_transfer_batch(latents, [Image.new("RGB", (4, 4))] * 2, CAMERAS)
    with pytest.raises(ValueError, match="latent_codes must be"):
        processor.process_latent_batch(latents[:, :5], CAMERAS)
    with pytest.raises(ValueError, match="batch_size and num_workers must be at least 1"):
        BatchProcessor(processor.generator, batch_size=0)


# Data sets


def pictures(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each picture was written, and its content."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "images").iterdir()}


def test_a_data_set_comes_back_through_a_data_loader(named: BatchProcessor, tmp_path: Path) -> None:
    made = named.generate_dataset(5, tmp_path / "set", {"age": ["young", "old"]}, {"radius": 2.2})
    read = AvatarDataset(tmp_path / "set")
    assert len(read) == len(made) == 5
    labels = [json.loads(line) for line in (tmp_path / "set" / "labels.jsonl").read_text().splitlines()]
    assert [label["file"] for label in labels] == [f"images/{n:06}.png" for n in range(5)]
    assert {label["attributes"]["age"] for label in labels} == {"young", "old"}

    controller, seen = StyleController(named.generator), 0
    for batch in DataLoader(read, batch_size=2):
        check_cameras(batch["camera"])
        assert torch.allclose(unpack_cameras(batch["camera"])[0][:, :3, 3].norm(dim=1), torch.tensor(2.2))
        expected = one_by_one(named.generator, batch["latent"], batch["camera"])
        for picture, drawn, age in zip(batch["image"], expected, batch["attributes"]["age"], strict=True):
            label = labels[seen]
            assert torch.equal(picture, pil_to_tensor(Image.open(tmp_path / "set" / label["file"])))
            assert (picture - pil_to_tensor(tensor_to_pil(drawn))).abs().max() < 0.02  # two steps of a byte
            assert age == label["attributes"]["age"]
            latent = controller.encode_attributes(label["attributes"], seed=label["seed"])[0]
            assert torch.allclose(batch["latent"][seen % 2], latent, atol=1e-5)
            seen += 1
    assert seen == 5
    assert torch.equal(read[-1]["image"], read[4]["image"])
    with pytest.raises(IndexError):
        read[5]


def test_without_attributes_there_are_still_labels(processor: BatchProcessor, tmp_path: Path) -> None:
    processor.generate_dataset(3, tmp_path)
    batch = next(iter(DataLoader(AvatarDataset(tmp_path), batch_size=3)))
    assert batch["attributes"] == {}
    assert (batch["latent"].std(1) > 0.5).all()


def test_only_what_is_missing_is_drawn_again(processor: BatchProcessor, tmp_path: Path) -> None:
    processor.generate_dataset(4, tmp_path)
    before = pictures(tmp_path)
    for name in ("000001.png", "000003.png"):
        (tmp_path / "images" / name).unlink()
    (tmp_path / "labels.jsonl").unlink()  # as if the first run had been stopped
    with pytest.raises(FileNotFoundError):
        AvatarDataset(tmp_path)
    assert len(processor.generate_dataset(4, tmp_path)) == 4
    after = pictures(tmp_path)
    assert {name for name in before if after[name][0] != before[name][0]} == {"000001.png", "000003.png"}
    for name in before:
        then, now = (pil_to_tensor(Image.open(io.BytesIO(found[name][1]))) for found in (before, after))
        assert (then - now).abs().max() < 0.02


def test_a_finished_data_set_can_grow_but_not_shrink(processor: BatchProcessor, tmp_path: Path) -> None:
    first = processor.generate_dataset(2, tmp_path)
    before = pictures(tmp_path)
    assert len(processor.generate_dataset(4, tmp_path)) == 4
    assert all(pictures(tmp_path)[name] == content for name, content in before.items())
    assert torch.equal(AvatarDataset(tmp_path).latents[:2], first.latents)
    with pytest.raises(ValueError, match="holds 4 samples already"):
        processor.generate_dataset(3, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_config": {"seed": 1}}, "differs in camera"),
        ({"camera_config": {"elevation_range": (0, 1)}}, "differs in camera"),
        ({"attributes_config": {"age": "old"}}, "differs in attributes"),
    ],
)
def test_another_data_set_s_folder_is_refused_untouched(
    processor: BatchProcessor, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    processor.generate_dataset(2, tmp_path)
    before = pictures(tmp_path)
    with pytest.raises(ValueError, match=message):
        processor.generate_dataset(3, tmp_path, **change)
    assert pictures(tmp_path) == before


def test_another_generator_s_folder_is_refused(processor: BatchProcessor, tmp_path: Path) -> None:
    processor.generate_dataset(1, tmp_path)
    other = build()
    other.renderer.decoder.log_beta.data += 0.1
    assert fingerprint(other) != fingerprint(processor.generator) == fingerprint(build())
    with pytest.raises(ValueError, match="differs in generator"):
        BatchProcessor(other).generate_dataset(1, tmp_path)


def test_a_folder_of_other_pictures_is_refused(processor: BatchProcessor, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"has pictures, but no dataset\.yaml"):
        processor.generate_dataset(1, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"camera_config": {"radus": 2}}, "unknown keys of camera_config: radus"),
        ({"camera_config": {"radius": 0}}, "radius must be positive"),
        ({"camera_config": {"azimuth_range": (1, 0)}}, "azimuth_range must run from low to high"),
        ({"attributes_config": {"age": []}}, "age must be a word or a list of words"),
        ({"attributes_config": {"age": [3]}}, "age must be a word or a list of words"),
    ],
)
def test_a_bad_configuration_writes_nothing(
    processor: BatchProcessor, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor.generate_dataset(**{"num_samples": 1, "output_dir": tmp_path / "set", **arguments})
    assert not (tmp_path / "set").exists()


def test_an_unknown_attribute_writes_nothing(processor: BatchProcessor, tmp_path: Path) -> None:
    with pytest.raises(UnknownAttribute):
        processor.generate_dataset(1, tmp_path / "set", {"age": "old"})
    assert not (tmp_path / "set").exists()
