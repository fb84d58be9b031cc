"""Aetherist: 3D-aware pictures of heads from latents and cameras. Needs torch; files also Pillow, PyYAML, safetensors.

Latents z [B, latent_dim] and cameras [B, 25] (`cameras.py` says which numbers) → pictures [B, 3, H, W] in [-1, 1]:

    mapping → w → synthesis → three planes → rays → renderer (decoder) → super-resolution
"""

from workers.avatar.aetherist.attributes import StyleController, UnknownAttribute
from workers.avatar.aetherist.batch import AvatarDataset, BatchProcessor
from workers.avatar.aetherist.cameras import (
    CameraConfig,
    CameraError,
    check_cameras,
    create_orbit_camera_path,
    generate_camera_poses,
    look_at_matrix,
    perspective_projection,
    world2cam_to_cam2world,
)
from workers.avatar.aetherist.config import AetheristConfig
from workers.avatar.aetherist.generator import AetheristGenerator, View
from workers.avatar.aetherist.images import pil_to_tensor, resize_tensor, save_image, save_image_grid, tensor_to_pil
from workers.avatar.aetherist.latents import (
    find_latent_directions,
    interpolate_latents,
    normalize_latent_codes,
    sample_latent_codes,
)
from workers.avatar.aetherist.networks.discriminator import Discriminator
from workers.avatar.aetherist.style import StyleTransfer

__all__ = [
    "AetheristConfig",
    "AetheristGenerator",
    "AvatarDataset",
    "BatchProcessor",
    "CameraConfig",
    "CameraError",
    "Discriminator",
    "StyleController",
    "StyleTransfer",
    "UnknownAttribute",
    "View",
    "check_cameras",
    "create_orbit_camera_path",
    "find_latent_directions",
    "generate_camera_poses",
    "interpolate_latents",
    "look_at_matrix",
    "normalize_latent_codes",
    "perspective_projection",
    "pil_to_tensor",
    "resize_tensor",
    "sample_latent_codes",
    "save_image",
    "save_image_grid",
    "tensor_to_pil",
    "world2cam_to_cam2world",
]
