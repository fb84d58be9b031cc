"""Cameras as 25 numbers, said once for the whole library.

A camera is 16 numbers of a cam2world matrix (4×4, row-major, OpenCV axes: x right, y down, z forward) and 9 of the
normalised intrinsics K (focal length and principal point divided by the image's side), as EG3D writes them
(Chan et al. 2022). The world has y up; a head at the origin looks along +z. Angles are radians: azimuth 0 is the front
and grows to the head's left (towards +x), elevation grows upwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FOV = math.pi / 4  # of the default camera
RADIUS = 2.5
TAU = 2 * math.pi
RIGID_TOLERANCE = 1e-3


class CameraError(ValueError):
    """Numbers that are no camera; `index` is the camera's place in the batch."""

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


def camera_from_angles(azimuth: Tensor, elevation: Tensor, radius: Tensor, fov: float = FOV) -> Tensor:
    """Cameras on spheres around the origin that look at it.

    Args:
        azimuth, elevation: [N] radians. radius: [N] units of the world. fov: vertical angle of view, radians.

    Returns:
        [N, 25]. Unlike a look-at matrix this is well defined at the poles too.
    """
    azimuth, elevation, radius = torch.broadcast_tensors(azimuth, elevation, radius)
    ca, sa, ce, se = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin()
    zero = torch.zeros_like(ca)
    towards = torch.stack([ce * sa, se, ce * ca], -1)  # from the origin to the camera
    right = torch.stack([ca, zero, -sa], -1)
    down = torch.stack([se * sa, -ce, se * ca], -1)
    return pack_cameras(_pose(right, down, -towards, radius[:, None] * towards), intrinsics(fov))


def intrinsics(fov: float = FOV) -> Tensor:
    """Normalised K [3, 3] of a square picture: f = 1 / (2 tan(fov / 2)), principal point 0.5. `fov` in (0, π)."""
    if not 0 < fov < math.pi:
        raise ValueError("fov must lie between 0 and π radians")
    focal = 0.5 / math.tan(fov / 2)
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def pack_cameras(cam2world: Tensor, k: Tensor) -> Tensor:
    """[N, 4, 4] and [3, 3] or [N, 3, 3] → [N, 25]."""
    count = cam2world.shape[0]
    k = k.to(cam2world).expand(count, 3, 3)
    return torch.cat([cam2world.reshape(count, 16), k.reshape(count, 9)], -1)


def unpack_cameras(cameras: Tensor) -> tuple[Tensor, Tensor]:
    """[N, 25] → cam2world [N, 4, 4] and normalised K [N, 3, 3]; ValueError for any other shape."""
    if cameras.ndim != 2 or cameras.shape[1] != 25:
        raise ValueError(f"cameras must be [N, 25], not {list(cameras.shape)}")
    return cameras[:, :16].reshape(-1, 4, 4), cameras[:, 16:].reshape(-1, 3, 3)


def check_cameras(cameras: Tensor) -> None:
    """Raise CameraError unless each of [N, 25] is a rigid pose with usable intrinsics."""
    poses, ks = unpack_cameras(cameras)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(poses)
    last = torch.tensor([0.0, 0.0, 1.0]).to(poses)
    for index, (pose, k) in enumerate(zip(poses, ks, strict=True)):
        rotation = pose[:3, :3]
        if not torch.isfinite(pose).all() or not torch.isfinite(k).all():
            raise CameraError("the numbers must be finite", index)
        if not torch.allclose(pose[3], bottom, atol=RIGID_TOLERANCE):
            raise CameraError("the pose's last row must be 0 0 0 1", index)
        if not torch.allclose(rotation @ rotation.T, torch.eye(3).to(pose), atol=RIGID_TOLERANCE):
            raise CameraError("the rotation is not orthonormal", index)
        if torch.linalg.det(rotation) < 0:
            raise CameraError("the rotation's determinant must be +1 (this one mirrors)", index)
        if not torch.allclose(k[2], last, atol=RIGID_TOLERANCE):
            raise CameraError("the intrinsics' last row must be 0 0 1", index)
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise CameraError("the focal lengths must be positive", index)


def world2cam_to_cam2world(cameras: Tensor) -> Tensor:
    """[N, 25] whose first 16 numbers are world2cam → the library's cam2world; the inverse is the same function."""
    poses, ks = unpack_cameras(cameras)
    rotation = poses[:, :3, :3].transpose(1, 2)
    inverse = poses.clone()
    inverse[:, :3, :3] = rotation
    inverse[:, :3, 3] = -(rotation @ poses[:, :3, 3:])[..., 0]
    return pack_cameras(inverse, ks)


def look_at_matrix(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """The cam2world matrix of a camera at `eye` that looks at `target`.

    Args:
        eye, target, up: [3] or [N, 3], world coordinates.

    Returns:
        [4, 4] or [N, 4, 4], OpenCV axes.

    Raises:
        ValueError: eye and target coincide, or the view direction is parallel to `up`.
    """
    forward = target - eye
    sideways = torch.linalg.cross(forward, up.expand_as(forward))
    if (forward.norm(dim=-1) < 1e-6).any() or (sideways.norm(dim=-1) < 1e-6 * forward.norm(dim=-1)).any():
        raise ValueError("eye and target must differ, and the view must not be parallel to up")
    forward, right = torch.nn.functional.normalize(forward, dim=-1), torch.nn.functional.normalize(sideways, dim=-1)
    return _pose(right, torch.linalg.cross(forward, right), forward, eye)


def perspective_projection(fov: float, aspect: float, near: float = 0.1, far: float = 100.0) -> Tensor:
    """The projection of camera space (OpenCV axes) to clip space.

    Args:
        fov: vertical angle of view, radians, in (0, π). aspect: width / height. near, far: 0 < near < far.

    Returns:
        [4, 4]; after division by w, x and y in [-1, 1] are the picture (y down), z in [-1, 1] runs from near to far.
    """
    if not 0 < fov < math.pi or aspect <= 0 or not 0 < near < far:
        raise ValueError("need 0 < fov < π, aspect > 0 and 0 < near < far")
    focal, depth = 1 / math.tan(fov / 2), far - near
    return torch.tensor(
        [
            [focal / aspect, 0.0, 0.0, 0.0],
            [0.0, focal, 0.0, 0.0],
            [0.0, 0.0, (far + near) / depth, -2 * far * near / depth],
            [0.0, 0.0, 1.0, 0.0],
        ]
    )


def generate_camera_poses(
    num_views: int = 8,
    radius: float = RADIUS,
    elevation_range: Sequence[float] = (-0.25, 0.25),
    azimuth_range: Sequence[float] = (0.0, TAU),
    device: torch.device | str | None = None,
) -> Tensor:
    """Views spread evenly over both ranges, the same on every call.

    Azimuths of a whole turn start at its low end and leave out the high end, which is the same place (2π written with
    two decimals counts); a smaller range is spread end to end. Elevations run from low to high. A single view has the
    middle elevation, and the middle azimuth unless the range is a whole turn.

    Returns:
        [num_views, 25].
    """
    if num_views < 1:
        raise ValueError("num_views must be at least 1")
    (left, right), (low, high) = azimuth_range, elevation_range
    azimuths = _spread(left, right, num_views, turn=right - left > TAU - 0.01)
    elevations = _spread(low, high, num_views)
    return camera_from_angles(azimuths, elevations, torch.tensor(float(radius))).to(device)


def create_orbit_camera_path(
    radius: float = RADIUS, elevation: float = 0.0, num_frames: int = 60, device: torch.device | str | None = None
) -> Tensor:
    """One whole turn at one elevation, [num_frames, 25]; the frame after the last would be the first."""
    return CameraConfig.create_orbit(radius, elevation, num_frames, True, device)


class CameraConfig:
    """Sets of cameras, all [N, 25]."""

    @staticmethod
    def create_front_view(device: torch.device | str | None = None) -> Tensor:
        """The default camera, [1, 25]: azimuth and elevation 0, radius 2.5, 45° of view."""
        return camera_from_angles(torch.zeros(1), torch.zeros(1), torch.tensor([RADIUS])).to(device)

    @staticmethod
    def create_orbit(
        radius: float = RADIUS,
        elevation: float = 0.0,
        num_views: int = 8,
        full_rotation: bool = True,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Views around the head from its front; without `full_rotation` from one ear to the other."""
        if num_views < 1:
            raise ValueError("num_views must be at least 1")
        half = math.pi / 2
        azimuths = _spread(0.0, TAU, num_views, turn=True) if full_rotation else _spread(-half, half, num_views)
        return camera_from_angles(azimuths, torch.tensor(float(elevation)), torch.tensor(float(radius))).to(device)

    @staticmethod
    def create_random(
        batch_size: int,
        radius_range: Sequence[float] = (2.0, 3.0),
        elevation_range: Sequence[float] = (-0.3, 0.3),
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Uniform radius, elevation and azimuth (all around), from torch's global generator."""

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(batch_size)

        azimuth, elevation, radius = uniform(0.0, TAU), uniform(*elevation_range), uniform(*radius_range)
        return camera_from_angles(azimuth, elevation, radius).to(device)

    @staticmethod
    def interpolate_poses(pose_a: Tensor, pose_b: Tensor, steps: int = 10) -> Tensor:
        """From one camera to another, [steps, 25]; both ends are exact.

        The rotation is interpolated on the sphere of quaternions (Shoemake 1985), the position as the place of the
        world's origin seen from the camera: between two cameras that look at the origin, all others do too.

        Args:
            pose_a, pose_b: [25] or [1, 25].
        """
        if steps < 2:
            raise ValueError("steps must be at least 2")
        ends = torch.stack([pose_a.reshape(25), pose_b.reshape(25)])
        poses, ks = unpack_cameras(ends)
        rotations = poses[:, :3, :3]
        origin = (rotations.transpose(1, 2) @ poses[:, :3, 3:])[..., 0]
        t = torch.linspace(0, 1, steps).to(ends)[:, None]
        start, end = _quaternion(rotations)
        turned = _rotation(_slerp(start, end, t))
        seen = origin[0] * (1 - t) + origin[1] * t
        place = (turned @ seen[..., None])[..., 0]
        path = pack_cameras(
            _pose(turned[..., 0], turned[..., 1], turned[..., 2], place),
            ks[0] * (1 - t[..., None]) + ks[1] * t[..., None],
        )
        path[0], path[-1] = ends[0], ends[1]
        return path


def _spread(low: float, high: float, count: int, turn: bool = False) -> Tensor:
    if turn:
        return low + (high - low) * torch.arange(count) / count
    return torch.linspace(low, high, count) if count > 1 else torch.tensor([(low + high) / 2])


def _pose(right: Tensor, down: Tensor, forward: Tensor, eye: Tensor) -> Tensor:
    upper = torch.stack([right, down, forward, eye], -1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(upper).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, bottom], -2)


def _quaternion(rotation: Tensor) -> Tensor:
    """[N, 3, 3] → unit quaternions [N, 4] (w, x, y, z), by the largest of the four (Shepperd 1978)."""
    m = rotation
    trace = m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2]
    squares = torch.stack([trace, m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]], -1)
    found = []
    for one, largest in zip(m, squares.argmax(-1).tolist(), strict=True):
        a, b, c = one[2, 1] - one[1, 2], one[0, 2] - one[2, 0], one[1, 0] - one[0, 1]
        d, e, f = one[0, 1] + one[1, 0], one[0, 2] + one[2, 0], one[1, 2] + one[2, 1]
        x, y, z = one.diagonal()
        q = {
            0: [1 + x + y + z, a, b, c],
            1: [a, 1 + x - y - z, d, e],
            2: [b, d, 1 - x + y - z, f],
            3: [c, e, f, 1 - x - y + z],
        }[largest]
        found.append(torch.nn.functional.normalize(torch.stack(q), dim=0))
    return torch.stack(found)


def _rotation(q: Tensor) -> Tensor:
    w, x, y, z = q.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    b = torch.where((a * b).sum() < 0, -b, b)  # both signs are one rotation: take the shorter way
    angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())
    if angle < 1e-4:
        return torch.nn.functional.normalize(a * (1 - t) + b * t, dim=-1)
    return ((1 - t) * angle).sin() / angle.sin() * a + (t * angle).sin() / angle.sin() * b
