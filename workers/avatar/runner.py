"""The avatar family's runner: one resident generator with its attributes and style transfer."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from workers.avatar.aetherist.attributes import StyleController, UnknownAttribute
from workers.avatar.aetherist.cameras import (
    CameraConfig,
    CameraError,
    check_cameras,
    generate_camera_poses,
    world2cam_to_cam2world,
)
from workers.avatar.aetherist.checkpoints import GENERATOR
from workers.avatar.aetherist.generator import AetheristGenerator
from workers.avatar.aetherist.style import StyleMap, StyleTransfer
from workers.avatar.catalog import find_models
from workers.avatar.mesh import EmptyMesh, encode_glb, extract_mesh
from workers.avatar.pictures import (
    MEDIA_TYPES,
    SUFFIXES,
    encode_depth,
    encode_mp4,
    encode_picture,
    encode_webp,
    mp4_encoder,
)
from workers.avatar.spec import MODEL_VERSION, Avatar, Batch, Custom
from workers.avatar.spec import StyleTransfer as StyleTransferInput
from workers.runtime.devices import device_errors
from workers.runtime.pictures import read_picture
from workers.runtime.runner import InputRejected, Job, ModelMissing

TURNTABLE_FRAMES, TURNTABLE_SIDE = 36, 256
STYLE_SIDE = 1024  # pixels of a style picture that are looked at
Request = Avatar | Custom | StyleTransferInput


@dataclass(frozen=True, slots=True)
class Head:
    """What is drawn: planes [1, …], the cameras of its views [V, 25], and how its pictures are styled."""

    planes: Tensor
    cameras: Tensor
    style: StyleMap | None = None
    style_weight: float = 0.0

    def styled(self, pictures: Tensor) -> Tensor:
        return self.style.apply(pictures, self.style_weight) if self.style else pictures


class AvatarRunner:
    """See `workers.runtime.runner.Runner`."""

    def setup(self, device: str, model: str) -> None:
        """Load the named folder; raises ModelMissing, OutOfMemory."""
        folder = find_models().get(model)
        if folder is None:
            raise ModelMissing(f"Model '{model}' is not on this worker's disk.")
        try:
            with device_errors():
                self._generator = AetheristGenerator.from_pretrained(folder).to(device)
                self._controller = StyleController(self._generator)
        except (OSError, ValueError, KeyError) as error:
            raise ModelMissing(f"Model '{model}' does not load: {error}") from error
        self._stylist = StyleTransfer(self._generator)
        self._model, self._device = model, device
        self._sha256 = hashlib.sha256((folder / GENERATOR).read_bytes()).hexdigest()

    def run(self, request: BaseModel, job: Job) -> dict[str, Any]:
        """Any of the family's operations."""
        began = time.monotonic()
        with torch.no_grad(), device_errors():
            if isinstance(request, Batch):
                output: dict[str, Any] = {"items": self._run_batch(request, job)}
            else:
                assert isinstance(request, Avatar | Custom | StyleTransferInput)
                steps = Steps(job, _steps(request))
                output = self._draw(request, job, steps, "")
        return output | {"generation_time": round(time.monotonic() - began, 4)}

    def status(self) -> dict[str, Any]:
        """What is loaded, as /models/status tells it."""
        return {
            "loaded": True,
            "device": self._device,
            "model_info": {
                "base_model": self._model,
                "resolution": self._generator.config.resolution,
                "attributes": {name: list(options) for name, options in self._controller.options.items()},
                "mp4_encoder": mp4_encoder(),
                "torch_version": torch.__version__,
            },
        }

    def close(self) -> None:
        """Let go of the weights."""
        del self._generator, self._controller, self._stylist
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _run_batch(self, batch: Batch, job: Job) -> list[dict[str, Any]]:
        steps, items = Steps(job, sum(_steps(request) for request in batch.requests)), []
        for number, request in enumerate(batch.requests):
            done = steps.done
            try:
                items.append({"success": True, **self._draw(request, job, steps, f"avatar_{number}/")})
            except InputRejected as error:
                items.append({"success": False, "error": str(error)})
                steps.skip(done + _steps(request))
        return items

    def _draw(self, request: Request, job: Job, steps: Steps, folder: str) -> dict[str, Any]:
        if request.model != self._model:
            raise InputRejected(f"All requests of a batch must use one model; this job runs '{self._model}'.")
        head = self._head(request, job)
        names, files = [], []
        for number, camera in enumerate(head.cameras):
            view = self._generator.view(head.planes, camera[None], request.resolution)
            picture = head.styled(view.image)[0]
            names.append(f"{folder}view_{number:03}.{SUFFIXES[request.output_format]}")
            job.save(names[-1], encode_picture(picture, request.output_format), MEDIA_TYPES[request.output_format])
            if request.depth:
                files.append(f"{folder}depth_{number:03}.png")
                depth = F.interpolate(view.depth[None], (request.resolution, request.resolution), mode="nearest")[0, 0]
                job.save(files[-1], encode_depth(depth), "image/png")
            steps.step()
        if request.turntable:
            files += self._turntable(head, request, job, steps, folder)
        if request.mesh:
            files.append(f"{folder}avatar.glb")
            try:
                job.save(files[-1], encode_glb(extract_mesh(self._generator, head.planes)), "model/gltf-binary")
            except EmptyMesh as error:
                raise InputRejected("This latent's head has no surface to make a mesh of.") from error
            steps.step()
        return {"views": names, "metadata": self._metadata(request, head, [*names, *files])}

    def _head(self, request: Request, job: Job) -> Head:
        if isinstance(request, Custom):
            latent = torch.tensor([request.latent_code])
            return Head(self._planes(latent, request.truncation_psi), self._own_cameras(request))
        attributes = request.style_config if isinstance(request, Avatar) else request.base_attributes
        try:
            latent = self._controller.encode_attributes(attributes.attributes(), seed=request.seed)
        except UnknownAttribute as error:
            raise InputRejected(f"The model '{self._model}' cannot do that: {error}") from error
        camera = request.camera_config
        cameras = generate_camera_poses(
            request.num_views, camera.radius, camera.elevation_range, camera.azimuth_range, self._device
        )
        if isinstance(request, Avatar) or request.style_weight == 0:
            return Head(self._planes(latent, request.truncation_psi), cameras)
        style = self._stylist.encode_style(read_picture(job.inputs["style_image"], "style_image", STYLE_SIDE))
        if not request.preserve_identity:
            moved = self._stylist.apply_style_vector(latent.to(self._device), style, request.style_weight)
            latent = moved.cpu()
        planes = self._planes(latent, request.truncation_psi)
        return Head(planes, cameras, self._stylist.style_map(planes, style), request.style_weight)

    def _planes(self, latent: Tensor, psi: float) -> Tensor:
        return self._generator.planes(latent.to(self._device), psi)

    def _own_cameras(self, request: Custom) -> Tensor:
        if request.camera_params is None:
            return CameraConfig.create_orbit(num_views=request.num_views or 1, device=self._device)
        cameras = torch.tensor(request.camera_params)
        try:
            check_cameras(cameras)
        except CameraError as error:
            raise InputRejected(f"Invalid camera_params: view {error.index}: {error}") from error
        if request.camera_convention == "world2cam":
            cameras = world2cam_to_cam2world(cameras)
        return cameras.to(self._device)

    def _turntable(self, head: Head, request: Request, job: Job, steps: Steps, folder: str) -> list[str]:
        """A whole turn at the radius and elevation of the first view."""
        eye = head.cameras[0, :16].reshape(4, 4)[:3, 3]
        radius = float(eye.norm())
        elevation = float(torch.asin((eye[1] / radius).clamp(-1, 1)))
        frames = []
        for camera in CameraConfig.create_orbit(radius, elevation, TURNTABLE_FRAMES, device=self._device):
            frames.append(head.styled(self._generator.view(head.planes, camera[None], TURNTABLE_SIDE).image)[0])
            steps.step()
        names = [f"{folder}turntable.webp"]
        job.save(names[0], encode_webp(frames), "image/webp")
        if encoder := mp4_encoder():
            names.append(f"{folder}turntable.mp4")
            job.save(names[1], encode_mp4(frames, encoder), "video/mp4")
        return names

    def _metadata(self, request: Request, head: Head, files: list[str]) -> dict[str, Any]:
        return {
            "resolution": request.resolution,
            "num_views": request.num_views,
            "model_version": MODEL_VERSION,
            "model": self._model,
            "model_sha256": self._sha256,
            "seed": None if isinstance(request, Custom) else request.seed,
            "cameras": [[round(value, 6) for value in camera] for camera in head.cameras.tolist()],
            "files": files,
        }


class Steps:
    """Counts rendered views, frames and meshes towards the job's total."""

    def __init__(self, job: Job, total: int) -> None:
        self._job, self._total, self.done = job, total, 0

    def step(self) -> None:
        self.skip(self.done + 1)

    def skip(self, done: int) -> None:
        self.done = done
        self._job.progress(done, self._total)


def _steps(request: Request) -> int:
    return (request.num_views or 1) + TURNTABLE_FRAMES * request.turntable + request.mesh
