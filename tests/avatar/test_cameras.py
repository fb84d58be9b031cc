"""Cameras: where they stand, where they look, and that all parts of the library read their numbers alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.avatar.tiny import signature
from workers.avatar.aetherist import (
    CameraConfig,
    CameraError,
    check_cameras,
    create_orbit_camera_path,
    generate_camera_poses,
    look_at_matrix,
    perspective_projection,
    world2cam_to_cam2world,
)
from workers.avatar.aetherist.cameras import camera_from_angles, intrinsics, pack_cameras, unpack_cameras
from workers.avatar.aetherist.networks.rays import sample_rays

TAU = 2 * math.pi
FRONT = CameraConfig.create_front_view()
few = settings(max_examples=30, deadline=None)
angles, lengths = st.floats(-7, 7), st.floats(0.5, 10)
places = st.tuples(*[st.floats(-3, 3)] * 3).map(torch.tensor)


@st.composite
def cameras(draw: st.DrawFn) -> Tensor:
    """[1, 25] anywhere on a sphere, the poles included, with any angle of view."""
    azimuth, elevation, radius = (torch.tensor([draw(values)]) for values in (angles, angles, lengths))
    return camera_from_angles(azimuth, elevation, radius, draw(st.floats(0.1, 3)))


def eyes(poses: Tensor) -> Tensor:
    return unpack_cameras(poses)[0][:, :3, 3]


def misses(poses: Tensor, target: Tensor | None = None) -> float:
    """How far the centre rays pass by the target, as a share of their way to it; inf if it is behind a camera."""
    origins, directions = sample_rays(poses, 1)
    way = (torch.zeros(3) if target is None else target) - origins
    along = (way * directions).sum(-1, keepdim=True)
    return float(((way - along * directions) / along).norm(dim=-1).max()) if (along > 0).all() else math.inf


def assert_rigid(poses: Tensor) -> None:
    rotations = unpack_cameras(poses)[0][:, :3, :3]
    assert torch.allclose(rotations @ rotations.transpose(1, 2), torch.eye(3).expand_as(rotations), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(len(poses)), atol=1e-5)
    check_cameras(poses)


# Sets of cameras


@pytest.mark.parametrize(
    ("function", "promised"),
    [
        (CameraConfig.create_front_view, "(device=None)"),
        (
            CameraConfig.create_orbit,
            "(radius=2.5, elevation=0.0, num_views=8, full_rotation=True, device=None)",
        ),
        (
            CameraConfig.create_random,
            "(batch_size, radius_range=(2.0, 3.0), elevation_range=(-0.3, 0.3), device=None)",
        ),
        (CameraConfig.interpolate_poses, "(pose_a, pose_b, steps=10)"),
        (
            generate_camera_poses,
            f"(num_views=8, radius=2.5, elevation_range=(-0.25, 0.25), azimuth_range=(0.0, {TAU}), device=None)",
        ),
        (create_orbit_camera_path, "(radius=2.5, elevation=0.0, num_frames=60, device=None)"),
        (look_at_matrix, "(eye, target, up)"),
        (perspective_projection, "(fov, aspect, near=0.1, far=100.0)"),
    ],
)
def test_the_signatures_are_as_promised(function: Callable[..., Tensor], promised: str) -> None:
    assert signature(function) == promised


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (CameraConfig.create_front_view, 1),
        (CameraConfig.create_orbit, 8),
        (lambda: CameraConfig.create_orbit(elevation=1.2, num_views=5, full_rotation=False), 5),
        (lambda: CameraConfig.create_random(6), 6),
        (generate_camera_poses, 8),
        (lambda: generate_camera_poses(1), 1),
        (create_orbit_camera_path, 60),
        (lambda: CameraConfig.interpolate_poses(*CameraConfig.create_random(2)), 10),
    ],
)
def test_every_set_of_cameras_looks_at_the_head(make: Callable[[], Tensor], count: int) -> None:
    made = make()
    assert made.shape == (count, 25)
    assert misses(made) < 1e-5
    assert_rigid(made)


@few
@given(radius=lengths, elevation=angles, views=st.integers(1, 12), whole=st.booleans())
def test_an_orbit_keeps_its_radius_and_height(radius: float, elevation: float, views: int, whole: bool) -> None:
    orbit = CameraConfig.create_orbit(radius, elevation, views, whole)
    assert eyes(orbit).norm(dim=1).tolist() == pytest.approx([radius] * views, rel=1e-5)
    assert eyes(orbit)[:, 1].tolist() == pytest.approx([radius * math.sin(elevation)] * views, abs=1e-4)
    assert misses(orbit) < 1e-5
    assert_rigid(orbit)


def test_the_front_camera_stands_before_the_face() -> None:
    pose, k = unpack_cameras(FRONT)
    assert pose[0].tolist() == [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.5], [0, 0, 0, 1]]
    assert k[0, 0, 0] == k[0, 1, 1] == pytest.approx(1.2071, abs=1e-4)
    assert k[0, :2, 2].tolist() == [0.5, 0.5]


def test_azimuth_grows_to_the_head_s_left_and_elevation_upwards() -> None:
    assert torch.allclose(eyes(CameraConfig.create_orbit(2, num_views=4))[1], torch.tensor([2.0, 0, 0]), atol=1e-6)
    assert (eyes(generate_camera_poses(3, elevation_range=(0.1, 0.3)))[:, 1] > 0).all()


def azimuths(poses: Tensor) -> list[float]:
    x, _, z = eyes(poses).unbind(1)
    return torch.atan2(x, z).tolist()


def elevations(poses: Tensor) -> list[float]:
    return torch.asin(eyes(poses)[:, 1] / eyes(poses).norm(dim=1)).tolist()


def test_a_whole_turn_leaves_out_its_end_and_a_smaller_range_reaches_it() -> None:
    quarters = [0, math.pi / 2, math.pi, -math.pi / 2]
    assert [abs(a) for a in azimuths(generate_camera_poses(4))] == pytest.approx([abs(a) for a in quarters], abs=1e-6)
    assert torch.equal(CameraConfig.create_orbit(num_views=7), create_orbit_camera_path(num_frames=7))
    assert azimuths(generate_camera_poses(3, azimuth_range=(-1, 0.5))) == pytest.approx([-1, -0.25, 0.5], abs=1e-6)
    ears = CameraConfig.create_orbit(num_views=3, full_rotation=False)
    assert azimuths(ears) == pytest.approx([-math.pi / 2, 0, math.pi / 2], abs=1e-6)
    assert elevations(generate_camera_poses(3)) == pytest.approx([-0.25, 0, 0.25], abs=1e-6)


def test_a_single_view_stands_in_the_middle() -> None:
    assert torch.allclose(generate_camera_poses(1), FRONT)
    one = generate_camera_poses(1, elevation_range=(0, 0.4), azimuth_range=(0.2, 0.6))
    assert azimuths(one) + elevations(one) == pytest.approx([0.4, 0.2], abs=1e-6)


def test_random_cameras_fill_their_ranges() -> None:
    made = CameraConfig.create_random(500, (1, 2), (-0.1, 0.4))
    for values, low, high in (
        (eyes(made).norm(dim=1).tolist(), 1, 2),
        (elevations(made), -0.1, 0.4),
        (azimuths(made), -math.pi, math.pi),
    ):
        assert min(values) == pytest.approx(low, abs=0.1)
        assert max(values) == pytest.approx(high, abs=0.1)
        assert low - 1e-5 <= min(values) <= max(values) <= high + 1e-5


# From one camera to another


@few
@given(cameras(), cameras(), st.integers(2, 9))
def test_an_interpolation_ends_exactly_and_looks_at_the_head_throughout(a: Tensor, b: Tensor, steps: int) -> None:
    path = CameraConfig.interpolate_poses(a, b[0], steps)
    assert path.shape == (steps, 25)
    assert torch.equal(path[[0, -1]], torch.cat([a, b]))
    assert misses(path) < 1e-3
    assert_rigid(path)
    radii = eyes(path).norm(dim=1)
    expected = torch.linspace(float(radii[0]), float(radii[-1]), steps)
    assert torch.allclose(radii, expected, rtol=1e-3)


def test_the_middle_of_a_quarter_turn_is_an_eighth() -> None:
    front, side = CameraConfig.create_orbit(num_views=4)[:2]
    middle = CameraConfig.interpolate_poses(front, side, 3)[1]
    assert torch.allclose(middle, CameraConfig.create_orbit(num_views=8)[1], atol=1e-5)


# Matrices


@few
@given(places, places)
def test_look_at_meets_its_target_with_up_upwards(eye: Tensor, target: Tensor) -> None:
    up = torch.tensor([0.0, 1, 0])
    if (target - eye)[[0, 2]].norm() < 0.05:
        return  # too near to parallel
    matrix = look_at_matrix(eye, target, up)
    camera = pack_cameras(matrix[None], intrinsics())
    assert_rigid(camera)
    assert torch.equal(matrix[:3, 3], eye)
    assert misses(camera, target) < 1e-4
    assert matrix[1, 1] < 0  # the camera's y points down
    assert abs(matrix[1, 0]) < 1e-5  # its x is level


def test_look_at_takes_many_eyes_and_agrees_with_the_angles() -> None:
    orbit = CameraConfig.create_orbit(elevation=0.4)
    found = look_at_matrix(eyes(orbit), torch.zeros(3), torch.tensor([0.0, 1, 0]))
    assert torch.allclose(found, unpack_cameras(orbit)[0], atol=1e-6)


@pytest.mark.parametrize("eye", [[0.0, 0, 0], [0.0, 2, 0]])
def test_look_at_refuses_what_has_no_direction(eye: list[float]) -> None:
    with pytest.raises(ValueError, match="must differ"):
        look_at_matrix(torch.tensor(eye), torch.zeros(3), torch.tensor([0.0, 1, 0]))


@few
@given(
    st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 50)).map(torch.tensor),
    st.floats(0.2, 2.5),
    st.floats(0.5, 2),
)
def test_a_projected_point_comes_back(point: Tensor, fov: float, aspect: float) -> None:
    projection = perspective_projection(fov, aspect).double()
    clip = projection @ torch.cat([point.double(), torch.ones(1)])
    assert -1 <= clip[2] / clip[3] <= 1
    back = torch.linalg.inv(projection) @ (clip / clip[3])
    assert torch.allclose(back[:3] / back[3], point.double(), rtol=1e-4, atol=1e-4)


def test_the_projection_runs_from_near_to_far() -> None:
    projection = perspective_projection(math.pi / 4, 1, near=0.5, far=4)
    for z, depth in ((0.5, -1), (4.0, 1)):
        clip = projection @ torch.tensor([0.0, 0, z, 1])
        assert float(clip[2] / clip[3]) == pytest.approx(depth, abs=1e-5)


def test_rays_intrinsics_and_projection_agree_about_every_pixel() -> None:
    camera = camera_from_angles(torch.tensor([0.7]), torch.tensor([0.3]), torch.tensor([2.0]), fov=0.8)
    origins, directions = sample_rays(camera, 4)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(1, 16))
    points = F.pad((origins + 1.7 * directions)[0], (0, 1), value=1.0)
    seen = points @ torch.linalg.inv(unpack_cameras(camera)[0][0]).T
    clip = seen @ perspective_projection(0.8, 1).T
    centres = (torch.arange(4) + 0.5) / 2 - 1
    assert torch.allclose(clip[:, 0] / clip[:, 3], centres.repeat(4), atol=1e-5)
    assert torch.allclose(clip[:, 1] / clip[:, 3], centres.repeat_interleave(4), atol=1e-5)


@pytest.mark.parametrize("numbers", [(0, 1), (math.pi, 1), (1, 0), (1, 1, 0), (1, 1, 2, 2)])
def test_the_projection_refuses_bad_numbers(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="need 0 < fov"):
        perspective_projection(*numbers)


@few
@given(cameras(), cameras())
def test_packing_and_both_conventions_come_back(a: Tensor, b: Tensor) -> None:
    both = torch.cat([a, b])
    assert torch.equal(pack_cameras(*unpack_cameras(both)), both)
    world2cam = world2cam_to_cam2world(both)
    poses, ks = unpack_cameras(world2cam)
    assert torch.allclose(poses, torch.linalg.inv(unpack_cameras(both)[0]), atol=1e-4)
    assert torch.equal(ks, unpack_cameras(both)[1])
    assert torch.allclose(world2cam_to_cam2world(world2cam), both, atol=1e-4)


# Refusals


def spoilt(row: int, value: float) -> Tensor:
    camera = FRONT.clone()
    camera[0, row] = value
    return camera


MIRROR = FRONT.clone()
MIRROR[:, 0] = -1


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (spoilt(12, 0.5), "the pose's last row must be 0 0 0 1"),
        (spoilt(15, 0), "the pose's last row must be 0 0 0 1"),
        (spoilt(0, 1.1), "the rotation is not orthonormal"),
        (torch.zeros(1, 25), "the pose's last row must be 0 0 0 1"),
        (MIRROR, r"the rotation's determinant must be \+1"),
        (spoilt(3, math.nan), "the numbers must be finite"),
        (spoilt(16, math.inf), "the numbers must be finite"),
        (spoilt(22, 1), "the intrinsics' last row must be 0 0 1"),
        (spoilt(16, 0), "the focal lengths must be positive"),
        (spoilt(20, -1.2), "the focal lengths must be positive"),
    ],
)
def test_a_bad_camera_is_refused_with_its_place(camera: Tensor, message: str) -> None:
    with pytest.raises(CameraError, match=message) as caught:
        check_cameras(torch.cat([FRONT, camera, FRONT]))
    assert caught.value.index == 1


def test_wrong_shapes_and_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 25\], not \[25\]"):
        check_cameras(FRONT[0])
    for make in (lambda: CameraConfig.create_orbit(num_views=0), lambda: generate_camera_poses(0)):
        with pytest.raises(ValueError, match="num_views must be at least 1"):
            make()
    with pytest.raises(ValueError, match="steps must be at least 2"):
        CameraConfig.interpolate_poses(FRONT, FRONT, 1)
    with pytest.raises(ValueError, match="fov must lie"):
        intrinsics(0)
