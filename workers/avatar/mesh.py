"""A head as a mesh: marching cubes on the distance field, coloured at its vertices."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from skimage.measure import marching_cubes
from torch import Tensor

from workers.avatar.aetherist.generator import AetheristGenerator

GRID = 128  # samples a side of the box
SLICE = 64 * 1024  # points decoded at once


class EmptyMesh(ValueError):
    """The field has no surface within the box."""


@torch.no_grad()
def extract_mesh(generator: AetheristGenerator, planes: Tensor, grid: int = GRID) -> trimesh.Trimesh:
    """planes [1, …] → a closed mesh in world units (y up, the face looks to +z) with sRGB vertex colours.

    Only the largest connected surface is kept. The surface is distance 0 (Lorensen & Cline 1987, through scikit-image).
    """
    axis = torch.linspace(-1, 1, grid)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(1, -1, 3).to(planes)
    distance = torch.cat([generator.field(planes, part)[1] for part in points.split(SLICE, 1)], 1)
    volume = distance.reshape(grid, grid, grid).float().cpu().numpy()
    volume = np.pad(volume, 1, constant_values=1.0)  # what the box cuts is closed
    if not (volume.min() < 0 < volume.max()):
        raise EmptyMesh("the head has no surface")
    vertices, faces, _, _ = marching_cubes(volume, 0.0, gradient_direction="ascent")
    places = ((vertices - 1) * (2 / (grid - 1)) - 1)[:, ::-1]  # z, y, x → x, y, z
    found = trimesh.Trimesh(places, faces[:, ::-1], process=False)
    mesh = max(found.split(only_watertight=False), key=lambda part: len(part.faces))
    colours = _colours(generator, planes, mesh.vertices)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colours)
    return mesh


def encode_glb(mesh: trimesh.Trimesh) -> bytes:
    """glTF 2.0, binary. Its vertex colours are linear, those of the mesh are sRGB."""
    linear = mesh.copy()
    srgb = np.asarray(mesh.visual.vertex_colors[:, :3], np.float64) / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    rgba = np.concatenate([light * 255, np.full((len(light), 1), 255.0)], 1).round().astype(np.uint8)
    linear.visual = trimesh.visual.ColorVisuals(linear, vertex_colors=rgba)
    content = trimesh.exchange.gltf.export_glb(trimesh.Scene({"head": linear}), include_normals=True)
    assert isinstance(content, bytes)
    return content


@torch.no_grad()
def _colours(generator: AetheristGenerator, planes: Tensor, vertices: np.ndarray) -> np.ndarray:
    points = torch.as_tensor(np.ascontiguousarray(vertices), dtype=torch.float32, device=planes.device)[None]
    colour = torch.cat([generator.field(planes, part)[0] for part in points.split(SLICE, 1)], 1)[0]
    return (((colour.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()).astype(np.uint8)
