"""The generator: latents and cameras → pictures, with what is behind them (styles, planes, depth, opacity)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from workers.avatar.aetherist import checkpoints
from workers.avatar.aetherist.cameras import RADIUS, CameraConfig, unpack_cameras
from workers.avatar.aetherist.config import AetheristConfig
from workers.avatar.aetherist.latents import interpolate_latents
from workers.avatar.aetherist.networks.decoder import Decoder
from workers.avatar.aetherist.networks.mapping import MappingNetwork
from workers.avatar.aetherist.networks.rays import sample_rays
from workers.avatar.aetherist.networks.renderer import VolumeRenderer
from workers.avatar.aetherist.networks.super_resolution import NoiseMode, SuperResolution
from workers.avatar.aetherist.networks.synthesis import TriplaneSynthesis, features_at


@dataclass(frozen=True)
class View:
    """Pictures [B, 3, H, W] in about [-1, 1], the rendered colour before super-resolution [B, 3, R, R] in [-1, 1],
    depth [B, R, R] along the ray (inf where nothing is) and opacity [B, R, R] in [0, 1]."""

    image: Tensor
    raw: Tensor
    depth: Tensor
    opacity: Tensor


class AetheristGenerator(nn.Module):
    """A 3D-aware generator: a latent becomes three feature planes, which are rendered from any camera.

    After EG3D (Chan et al. 2022), with a signed distance in place of a density (StyleSDF).

    Args:
        config: the model's numbers.
        pretrained_path: a folder of `checkpoints.save_generator`; its config must have the same architecture.
    """

    def __init__(self, config: AetheristConfig, pretrained_path: str | Path | None = None) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config.latent_dim)
        self.synthesis = TriplaneSynthesis(
            config.triplane_dim, config.triplane_res, config.latent_dim, config.gradient_checkpointing
        )
        self.renderer = VolumeRenderer(
            Decoder(config.triplane_dim, config.neural_renderer_layers),
            config.coarse_samples,
            config.importance_samples,
        )
        self.super_resolution = SuperResolution(config.super_resolution_layers, config.resolution // config.scale)
        self.folder: Path | None = None
        if pretrained_path is not None:
            self._load(Path(pretrained_path))

    @classmethod
    def from_pretrained(cls, path: str | Path) -> AetheristGenerator:
        """The model in this folder (`config.yaml`, `generator.safetensors`), on the CPU, in evaluation mode.

        Raises OSError where there is no such folder, and ValueError for a file that does not fit. Nothing is ever
        unpickled.
        """
        return cls(AetheristConfig.load(Path(path) / checkpoints.CONFIG), path).eval()

    def _load(self, folder: Path) -> None:
        checkpoints.load_network(self, folder / checkpoints.GENERATOR)
        self.folder = folder

    def forward(
        self,
        latent_codes: Tensor,
        camera_params: Tensor,
        truncation_psi: float = 1.0,
        noise_mode: NoiseMode = "const",
    ) -> Tensor:
        """Pictures of latents.

        Args:
            latent_codes: [B, latent_dim], or [1, latent_dim] for all. camera_params: [B, 25] (see `cameras`).
            truncation_psi: 0 (the average head) to 1. noise_mode: of the super-resolution: const, random or none.

        Returns:
            [B, 3, resolution, resolution], about [-1, 1].

        Raises:
            ValueError: a shape or `noise_mode` is wrong.
        """
        return self.view(self.planes(latent_codes, truncation_psi), camera_params, noise_mode=noise_mode).image

    def planes(self, latent_codes: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """[B, latent_dim] → planes [B, triplane_dim, R, R]: the head itself, to be seen from any number of cameras."""
        if latent_codes.ndim != 2 or latent_codes.shape[1] != self.config.latent_dim:
            raise ValueError(f"latent_codes must be [B, {self.config.latent_dim}], not {list(latent_codes.shape)}")
        return self.synthesis(self.mapping(latent_codes, truncation_psi)).float()

    def view(
        self, planes: Tensor, camera_params: Tensor, resolution: int | None = None, noise_mode: NoiseMode = "const"
    ) -> View:
        """Pictures of planes [B, …] (or one for all cameras, [1, …]) from cameras [B, 25].

        `resolution` may be any side; rays are cast at the nearest grid above it, and the picture is brought to size.
        Raises ValueError if a shape or a value is wrong.
        """
        unpack_cameras(camera_params)
        if len(planes) not in (1, len(camera_params)):
            raise ValueError(f"{len(camera_params)} cameras for {len(planes)} heads")
        wanted = self.config.resolution if resolution is None else resolution
        if wanted < 1:
            raise ValueError("resolution must be at least 1")
        rays = max(-(-wanted // self.config.scale), 4)
        planes = planes.expand(camera_params.shape[0], -1, -1, -1)
        rendering = self.renderer(planes, *sample_rays(camera_params, rays))
        grid = rendering.features.transpose(1, 2).unflatten(2, (rays, rays))
        image = self.super_resolution(grid, noise_mode)
        if image.shape[-1] != wanted:
            image = F.interpolate(image, (wanted, wanted), mode="bilinear", antialias=True)
        shape = (-1, rays, rays)
        return View(image, grid[:, :3], rendering.depth.reshape(shape), rendering.opacity.reshape(shape))

    def field(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Colour [B, P, 3] in [-1, 1] and signed distance [B, P] at points [B, P, 3] of the box [-1, 1]³."""
        appearance, distance = self.renderer.decoder(features_at(planes, points), points)
        return appearance[..., :3], distance

    def generate_front_view(self, latent_codes: Tensor) -> Tensor:
        """[B, latent_dim] → [B, 3, H, W] from the default camera."""
        return self(latent_codes, CameraConfig.create_front_view(latent_codes.device).expand(len(latent_codes), -1))

    def generate_multi_view(self, latent_codes: Tensor, num_views: int = 8, radius: float = RADIUS) -> list[Tensor]:
        """An orbit: `num_views` tensors [B, 3, H, W]. The heads are made once."""
        planes = self.planes(latent_codes)
        orbit = CameraConfig.create_orbit(radius, num_views=num_views, device=latent_codes.device)
        return [self.view(planes, camera.expand(len(latent_codes), -1)).image for camera in orbit]

    def interpolate(self, latent_a: Tensor, latent_b: Tensor, steps: int = 10) -> list[Tensor]:
        """Front views from one latent ([latent_dim] or [1, latent_dim]) to another: `steps` pictures [1, 3, H, W]."""
        path = interpolate_latents(latent_a, latent_b, steps)
        return [self.generate_front_view(latent.reshape(1, -1)) for latent in path]
