"""A parametric head: a signed distance field with colours, drawn from any camera with exact colour, mask and depth.

All fields are batched: parameters [B, K] in (0, 1), points [B, P, 3] in the box [-1, 1]³ (y up, the face looks to +z).
The building blocks and the smooth minimum are those of Inigo Quilez's articles on distance functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# fmt: off
NAMES = [
    "age", "gender", "expression", "hair_light", "hair_a", "hair_b", "skin_dark", "skin_warm", "face_width", "jaw",
    "chin", "cheeks", "nose_length", "nose_width", "eye_size", "eye_distance", "iris_hue", "iris_light",
    "brow_thick", "lips", "ears", "hair_length", "hair_volume", "fringe", "curls", "beard", "neck", "shirt_hue",
    "shirt_light",
]
# fmt: on
LATENT_DIM = 512
LIGHT = torch.nn.functional.normalize(torch.tensor([0.35, 0.6, 0.75]), dim=0)
BACKGROUND = 1.0  # white
CLASSES = {  # of a parameter's range, from low to high
    "age": ("young", "middle", "elderly"),
    "gender": ("male", "neutral", "female"),
    "expression": ("serious", "neutral", "smile"),
}
SKIN = [[0.98, 0.85, 0.77], [0.93, 0.74, 0.60], [0.76, 0.54, 0.38], [0.52, 0.34, 0.24], [0.33, 0.21, 0.16]]
HAIR_COLOURS = {  # sRGB
    "black": (0.10, 0.09, 0.10),
    "brown": (0.38, 0.24, 0.15),
    "blonde": (0.87, 0.71, 0.42),
    "red": (0.66, 0.24, 0.10),
    "grey": (0.60, 0.60, 0.61),
    "white": (0.91, 0.90, 0.89),
    "blue": (0.22, 0.37, 0.72),
    "green": (0.26, 0.56, 0.32),
    "pink": (0.92, 0.52, 0.68),
    "purple": (0.46, 0.27, 0.62),
}


def latent_map() -> Tensor:
    """The fixed orthonormal rows [K, 512] that read the parameters off a latent."""
    generator = torch.Generator().manual_seed(20)
    q, _ = torch.linalg.qr(torch.randn(LATENT_DIM, len(NAMES), generator=generator, dtype=torch.float64))
    return q.T.float().contiguous()


def parameters(latents: Tensor, truncation_psi: float = 1.0) -> Tensor:
    """Latents [B, 512] → parameters [B, K], uniform on (0, 1) for normal latents.

    Latents are brought to the length √512 first and truncated, as the mapping network does. Older heads lean towards
    lighter hair, and only men's beards grow.
    """
    latents = latents * torch.rsqrt(latents.square().mean(-1, keepdim=True) + 1e-8)
    normal = truncation_psi * (latents @ latent_map().to(latents).T)
    index = {name: n for n, name in enumerate(NAMES)}
    old = torch.nn.functional.softplus(2 * (normal[:, index["age"]] - 0.6)) / 2
    normal[:, index["hair_light"]] += 0.7 * old
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    return uniform.clamp(1e-4, 1 - 1e-4)


def labels(params: Tensor) -> dict[str, list[str]]:
    """The class names of each head, with the name of the nearest hair colour."""
    found = {
        name: [classes[min(int(value * 3), 2)] for value in params[:, NAMES.index(name)].tolist()]
        for name, classes in CLASSES.items()
    }
    palette = oklab(torch.tensor(list(HAIR_COLOURS.values())))
    nearest = torch.cdist(oklab(hair_colour(params)), palette).argmin(-1)
    found["hair_color"] = [list(HAIR_COLOURS)[n] for n in nearest.tolist()]
    return found


def hair_colour(params: Tensor) -> Tensor:
    """[B, 3] sRGB. Most hair is natural; the tails of hair_a and hair_b are dyed."""
    p = dict(zip(NAMES, params.unbind(-1), strict=True))
    light = 0.16 + 0.76 * p["hair_light"]
    a, b = (math.sqrt(2) * torch.erfinv(2 * p[name] - 1) for name in ("hair_a", "hair_b"))
    square = a * a + b * b
    dye = 0.15 * square.square() / (12 + square.square()) / (square + 1e-6).sqrt()
    middle = torch.sin(math.pi * p["hair_light"])  # neither black nor white hair has much colour
    return _srgb(torch.stack([light, 0.02 * middle + 0.02 * a * middle + a * dye, 0.055 * middle + b * dye], -1))


@dataclass(frozen=True)
class Surface:
    """What `draw` saw: colour [B, R, R, 3] in [0, 1], mask [B, R, R], depth [B, R, R] (distance; inf where none)."""

    colour: Tensor
    mask: Tensor
    depth: Tensor


class Heads:
    """The fields of a batch of heads."""

    def __init__(self, params: Tensor) -> None:
        self._params = params
        p = {name: value[:, None] for name, value in zip(NAMES, params.unbind(-1), strict=True)}
        self.p = p
        age, fem, smile = p["age"], p["gender"], 2 * p["expression"] - 1
        self.old = _step(age, 0.38, 0.95)
        self.child = 1 - _step(age, 0.05, 0.62)
        self.male = 1 - _step(fem, 0.15, 0.75)
        self.fem = _step(fem, 0.3, 0.9)
        self.smile, self.happy, self.grim = smile, smile.clamp_min(0), (-smile).clamp_min(0)
        self.width = 0.94 + 0.14 * p["face_width"]
        self.jaw = (0.40 + 0.05 * p["jaw"] + 0.06 * self.male - 0.03 * self.fem + 0.02 * self.child) * self.width
        self.chin_y = -0.55 - 0.05 * p["chin"] - 0.03 * self.male + 0.06 * self.child
        self.eye_x = 0.185 + 0.03 * p["eye_distance"]
        self.eye_y = 0.03 - 0.04 * self.child
        self.eye_r = 0.094 + 0.02 * p["eye_size"] + 0.024 * self.child + 0.008 * self.fem
        self.eye_z = 0.445
        self.lid_y = self.eye_y + self.eye_r * (0.52 - 0.12 * self.old - 0.10 * self.grim)
        self.mouth_y = -0.335 - 0.02 * p["chin"]
        self.volume = 0.035 + 0.09 * p["hair_volume"] + 0.02 * self.fem - 0.02 * self.old
        length = (0.95 * p["hair_length"] + 0.50 * self.fem - 0.25 * self.male - 0.10).clamp(0, 1)
        self.length = length
        self.beard = self.male * _step(p["beard"], 0.4, 0.95)
        self.hair_rgb = hair_colour(params)[:, None]
        self.grey = (0.75 * self.old).unsqueeze(-1)
        self.skin_rgb = _skin(p["skin_dark"], p["skin_warm"])
        self.iris_rgb = _wheel(0.06 + 0.6 * p["iris_hue"], 0.45, 0.28 + 0.3 * p["iris_light"])
        self.shirt_rgb = _wheel(0.47 + 0.4 * p["shirt_hue"], 0.45, 0.35 + 0.4 * p["shirt_light"])

    def __getitem__(self, rows: Tensor) -> Heads:
        return Heads(self._params[rows])

    def parts(self, points: Tensor) -> list[Tensor]:
        """Signed distances [B, P] to skin, eyes, brows, hair, beard and shirt, in this order."""
        p, (x, y, z) = self.p, points.unbind(-1)
        side = x.abs()
        w = self.width
        skull = _ellipsoid(x, y - 0.17, z + 0.06, 0.50 * w, 0.56 - 0.02 * self.child, 0.57)
        face = _ellipsoid(x, y + 0.22, z - 0.07, self.jaw, 0.46, 0.43)
        skin = _smin(skull, face, 0.14)
        chin = _ellipsoid(x, y - self.chin_y, z - 0.29, 0.15 + 0.05 * self.male, 0.10, 0.13)
        skin = _smin(skin, chin, 0.16)
        lift = 0.02 * self.happy
        cheek = _ball(side - 0.25, y + 0.15 - lift, z - 0.31 - 0.5 * lift, 0.15 + 0.05 * p["cheeks"] - 0.03 * self.old)
        skin = _smin(skin, cheek, 0.12)
        socket = _ball(side - self.eye_x, y - self.eye_y, z - 0.60, 0.13)
        skin = _smax(skin, -socket, 0.09)
        neck_r = 0.19 + 0.06 * self.male + 0.03 * p["neck"]
        neck = torch.maximum(torch.sqrt(x * x + (z + 0.10).square()) - neck_r, y + 0.3)
        skin = _smin(skin, neck, 0.08)
        tip = 0.565 + 0.07 * p["nose_length"] + 0.02 * self.old - 0.02 * self.child
        low = -0.13 - 0.035 * p["nose_length"] - 0.02 * self.old + 0.02 * self.child
        nose = _cone(x, y, z, (0.07, 0.455), (low, tip), 0.042, 0.062 + 0.024 * p["nose_width"] + 0.008 * self.male)
        width = p["nose_width"]
        wings = _ball(side - 0.062 - 0.03 * width, y - low + 0.012, z - tip + 0.065, 0.040 + 0.014 * width)
        skin = _smin(skin, _smin(nose, wings, 0.04), 0.06)
        size = 0.8 + 0.4 * p["ears"] + 0.15 * self.old
        ear = _ellipsoid(side - 0.515 * w, y - 0.0, z + 0.03, 0.055, 0.155 * size, 0.095 * size)
        bowl = _ball(side - 0.515 * w - 0.06, y - 0.01, z - 0.02, 0.075 * size)
        skin = _smin(skin, _smax(ear, -bowl, 0.03), 0.03)
        ball = _ball(side - self.eye_x, y - self.eye_y, z - self.eye_z, self.eye_r)
        lid = _ball(side - self.eye_x, y - self.eye_y, z - self.eye_z, self.eye_r * 1.10)
        upper = self.lid_y - y
        lower = y - (self.eye_y - self.eye_r * (0.62 - 0.06 * self.happy))
        skin = torch.minimum(skin, _smax(lid, torch.minimum(upper, lower), 0.015))
        brow_y = self.eye_y + 0.165 + 0.004 * self.happy - 0.03 * self.grim - 0.01 * self.old
        tilt = 0.10 + 0.03 * self.happy - 0.55 * self.grim
        along = side - self.eye_x - 0.01
        across = y - brow_y + tilt * along + 1.6 * along * along
        thick = 0.016 + 0.016 * p["brow_thick"] + 0.012 * self.male
        brow = _ellipsoid(along, across, z - 0.462 + 0.9 * side * side - 0.03, 0.125, thick, 0.055)
        hair = self._hair(points)
        tuft = 0.05 * self.beard - 0.022
        shaved = y - self.mouth_y + 0.03 - 0.75 * (side - 0.13).clamp_min(0) - 0.10 * _step(side, 0.10, 0.22)
        around = torch.minimum(face, chin) - tuft
        beard = _smax(_smax(around, shaved, 0.05), -(z + 0.12 + 0.3 * (y + 0.3)), 0.04)
        shirt = _smin(
            _ellipsoid(x, y + 1.16, z + 0.10, 0.80 + 0.06 * self.male, 0.36, 0.34 + 0.03 * self.male),
            _ellipsoid(x, y + 0.86, z + 0.10, neck_r + 0.09, 0.10, neck_r + 0.09),
            0.08,
        )
        return [skin, ball, brow, hair, beard, shirt]

    def _hair(self, points: Tensor) -> Tensor:
        p, (x, y, z) = self.p, points.unbind(-1)
        side = x.abs()
        v = self.volume
        amount = p["curls"].square()
        bumps = 0.034 * amount * torch.sin(17 * x) * torch.sin(17 * y + 1) * torch.sin(17 * z)
        strands = 0.0035 * (1 - amount) * torch.sin(34 * torch.atan2(x, z + 0.25) + 4 * torch.sin(3 * y))
        shell = _ellipsoid(x, y - 0.19, z + 0.09, 0.505 * self.width + v, 0.555 + v, 0.59 + 0.9 * v)
        line = 0.34 + 0.10 * self.old * (0.4 + 0.6 * self.male) - 0.15 * p["fringe"] + 0.05 * self.male
        line = line - 0.5 * side * side + 0.05 * torch.sin(9 * x + 3) * p["fringe"]
        cut = 0.72 * (z - 0.10) + 0.69 * (line - 0.22 - y)
        nape = -(y + 0.24)
        cap = _smax(_smax(shell, cut, 0.05), nape, 0.06)
        grown = _step(self.length, 0.30, 0.62)
        drop = 0.20 + 0.55 * self.length
        veil = _ellipsoid(
            x,
            y + 0.02 + 0.36 * self.length,
            z + 0.17,
            (0.44 + 0.9 * v) * (0.55 + 0.45 * grown) * self.width,
            0.30 + drop,
            (0.40 + 0.4 * v) * (0.55 + 0.45 * grown),
        )
        front = 0.85 * (z - 0.06 - 0.25 * (side - 0.42).clamp_min(0)) + 0.10 * y.clamp_max(0)
        veil = _smax(_smax(veil, front, 0.05), -(y + 0.16 + drop * 0.85), 0.06)
        hair = _smin(cap, veil, 0.05)
        return hair - bumps - strands

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance [B, P], negative inside; the bust ends at y = -0.98."""
        parts = self.parts(points)
        nearest = parts[0]
        for part in parts[1:]:
            nearest = torch.minimum(nearest, part)
        return torch.maximum(nearest, -0.98 - points[..., 1])

    def albedo(self, points: Tensor, parts: list[Tensor] | None = None) -> Tensor:
        """Colours [B, P, 3] without light; parts blend over about a hundredth."""
        parts = parts or self.parts(points)
        grain = _grain(points)[..., None]
        silver = torch.full_like(self.hair_rgb, 0.72)
        temple = _step(-points[..., 1], -0.40, 0.20)[..., None] * self.grey
        hair = self.hair_rgb + (silver - self.hair_rgb) * temple
        band = torch.exp(-((points[..., 1] - 0.55 - 0.25 * points[..., 2]) / 0.10).square())[..., None]
        hair = hair * (1 + 0.06 * grain) + 0.10 * band
        brow = 0.72 * (self.hair_rgb + (silver - self.hair_rgb) * 0.6 * self.grey) + 0.06
        beard = (self.hair_rgb + (silver - self.hair_rgb) * self.grey) * (0.92 + 0.10 * grain)
        shirt = self.shirt_rgb * (1 + 0.04 * grain)
        colours = [self._skin_colour(points), self._eye_colour(points), brow, hair, beard, shirt]
        weights = torch.softmax(torch.stack(parts, -1) / -0.006, -1)
        total = torch.zeros_like(points)
        for n, colour in enumerate(colours):
            total = total + weights[..., n : n + 1] * colour
        return total.clamp(0, 1)

    def colour(self, points: Tensor, normals: Tensor | None = None) -> Tensor:
        """Colours [B, P, 3] as seen: a soft light from the upper front, the same from everywhere."""
        normals = self.normals(points) if normals is None else normals
        light = (normals * LIGHT.to(points)).sum(-1, keepdim=True)
        shade = 0.70 + 0.33 * light.clamp_min(0) + 0.07 * normals[..., 1:2]
        return (self.albedo(points) * shade).clamp(0, 1)

    def normals(self, points: Tensor, step: float = 4e-3) -> Tensor:
        """Outward unit normals [B, P, 3] by a tetrahedron of differences."""
        total = torch.zeros_like(points)
        for corner in ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0)):
            offset = torch.tensor(corner).to(points)
            total = total + offset * self.distance(points + step * offset)[..., None]
        return torch.nn.functional.normalize(total, dim=-1)

    def _skin_colour(self, points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        side, front = x.abs(), _step(z, 0.2, 0.35)
        skin = self.skin_rgb.expand(*points.shape)
        blush = torch.exp(-((side - 0.27).square() + (y + 0.16).square()) / 0.012) * front
        blush = blush * (0.35 + 0.1 * self.happy + 0.3 * self.fem)
        skin = skin + blush[..., None] * torch.tensor([0.05, -0.10, -0.07]).to(points)
        lines = self._wrinkles(x, y, z)
        skin = skin * (1 - 0.30 * lines[..., None])
        skin = skin * (1 + 0.025 * _grain(points)[..., None])
        stubble = 0.60 * self.male * (1 - self.child) * _step(-y, 0.28, 0.40) * _step(y, -0.75, -0.66)
        stubble = stubble * _step(z, 0.0, 0.2)
        skin = skin * (1 - 0.45 * stubble[..., None])
        away = torch.sqrt((side - self.eye_x).square() + (y - self.eye_y).square())
        lash = torch.exp(-((y - self.lid_y - 0.008) / 0.009).square()) * _step(1.25 * self.eye_r - away, 0, 0.02)
        skin = skin * (1 - ((0.25 + 0.65 * self.fem) * lash * front)[..., None])
        # The mouth, in coordinates that follow its line: u along it in [-1, 1], v up from it.
        reach = 0.135 + 0.055 * self.happy - 0.015 * self.grim + 0.01 * self.male
        u = x / reach
        curve = 0.09 * self.happy - 0.06 * self.grim
        v = y - self.mouth_y - curve * (u * u - 0.35)
        taper = (1 - u * u).clamp_min(0)
        gap = 0.085 * _step(self.smile, 0.15, 0.85) * taper
        full = 0.6 + 0.5 * self.p["lips"] + 0.35 * self.fem - 0.25 * self.grim
        top, bottom = gap * 0.35 + 0.030 * full * taper.sqrt(), -gap * 0.65 - 0.038 * full * taper.sqrt()
        within = _step(taper, 0.0, 0.10) * front
        edge = 0.008
        lips = within * _step(top - v, -edge, edge) * _step(v - bottom, -edge, edge)
        opened = within * _step(gap, 0.004, 0.02)
        opened = opened * _step(gap * 0.35 - v, -edge, edge) * _step(v + gap * 0.65, -edge, edge)
        seam = within * torch.exp(-(v / 0.007).square()) * (1 - _step(gap, 0.004, 0.02))
        rose = torch.tensor([0.80, 0.27, 0.33]).to(points)
        lip_rgb = skin * (0.68 - 0.40 * self.fem[..., None]) + rose * (0.20 + 0.48 * self.fem[..., None])
        skin = skin + (lip_rgb - skin) * (0.85 * lips)[..., None]
        skin = skin * (1 - 0.55 * seam[..., None])
        teeth = torch.tensor([0.97, 0.95, 0.92]).to(points)
        return skin + (teeth - skin) * opened[..., None]

    def _wrinkles(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Forehead lines, crow's feet and the folds beside the mouth, 0..1."""
        side, front = x.abs(), _step(z, 0.15, 0.3)
        forehead = torch.exp(-((y - 0.36) / 0.085).square()) * _step(0.30 - side, 0, 0.12)
        forehead = forehead * (0.5 + 0.5 * torch.cos(2 * math.pi * (y + 0.5 * x * x) / 0.062)).pow(4)
        angle = torch.atan2(y - self.eye_y, side - self.eye_x)
        away = torch.sqrt((side - self.eye_x).square() + (y - self.eye_y).square())
        feet = torch.exp(-((away - 0.165) / 0.03).square()) * _step(0.75 - angle.abs(), 0, 0.2)
        feet = feet * (0.5 + 0.5 * torch.cos(9 * angle)).pow(3)
        bend = 0.115 + 0.55 * (-0.14 - y).clamp_min(0)
        fold = torch.exp(-((side - bend) / 0.012).square()) * _step(-0.15 - y, 0, 0.04) * _step(y + 0.40, 0, 0.06)
        bags = torch.exp(-((away - self.eye_r - 0.035) / 0.012).square()) * _step(-(y - self.eye_y), 0.03, 0.07)
        lines = (forehead + feet + 0.9 * fold + 0.6 * bags) * self.old + 0.25 * fold * self.happy
        return (lines * front).clamp(0, 1)

    def _eye_colour(self, points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        off = torch.sqrt((x.abs() - self.eye_x).square() + (y - self.eye_y).square()) / self.eye_r
        off = off + 2 * (z < self.eye_z)
        white = torch.tensor([0.97, 0.97, 0.98]).to(points)
        colour = white + (self.iris_rgb - white) * _step(0.60 - off, -0.04, 0.04)[..., None]
        colour = colour * (1 - 0.5 * torch.exp(-((off - 0.60) / 0.06).square()))[..., None]
        colour = colour * (1 - 0.95 * _step(0.32 - off, -0.04, 0.04))[..., None]
        aside, up = x - torch.sign(x) * self.eye_x - 0.25 * self.eye_r, y - self.eye_y - 0.27 * self.eye_r
        glint = aside.square() + up.square()
        return colour + (1 - colour) * _step(0.17 - glint.sqrt() / self.eye_r, -0.04, 0.04)[..., None]


def compile_fields() -> None:
    """Fuse the fields' many small steps, for programs that draw for an hour: the truth comes three times as fast.

    Takes a minute or two (torch keeps the result in its cache) and needs a C++ compiler.
    """
    Heads.distance = torch.compile(Heads.distance, dynamic=True)  # type: ignore[method-assign]
    Heads.albedo = torch.compile(Heads.albedo, dynamic=True)  # type: ignore[method-assign]


@torch.no_grad()
def draw(params: Tensor, origins: Tensor, directions: Tensor, steps: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Sphere tracing (Hart 1996) of B heads along B × P rays; rays that are done leave the batch.

    Returns:
        Colours [B, P, 3], mask [B, P] (bool), depth [B, P] along the ray (inf where nothing is hit).
    """
    count, rays = origins.shape[:2]
    depth = torch.full((count, rays), math.inf)
    colour = torch.full((count, rays, 3), BACKGROUND)
    for row in range(count):  # one head at a time: its rays share parameters
        heads = Heads(params[row : row + 1])
        o, d = origins[row], directions[row]
        t, end = _cross_box(o, d)
        alive = torch.nonzero(end > t)[:, 0]
        found: list[Tensor] = []
        for _ in range(steps):
            gap = heads.distance((o[alive] + t[alive, None] * d[alive])[None])[0]
            close = gap < 1e-3
            found.append(alive[close])
            t[alive] += 0.85 * gap
            alive = alive[~close & (t[alive] < end[alive])]
            if not len(alive):
                break
        last = (o[alive] + t[alive, None] * d[alive])[None]
        found.append(alive[heads.distance(last)[0] < 8e-3])  # grazing rays creep
        hit = torch.cat(found)
        if len(hit):
            points = o[hit] + t[hit, None] * d[hit]
            colour[row, hit] = heads.colour(points[None])[0]
            depth[row, hit] = t[hit]
    return colour, torch.isfinite(depth), depth


def draw_views(params: Tensor, cameras: Tensor, size: int, samples: int = 1) -> Surface:
    """Square pictures of heads [B, K] from cameras [B, 25]; colours are means over `samples`² rays a pixel."""
    from workers.avatar.aetherist.networks.rays import sample_rays

    fine = size * samples
    origins, directions = sample_rays(cameras, fine)
    colour, mask, depth = draw(params, origins, directions)
    grid = colour.reshape(-1, fine, fine, 3).permute(0, 3, 1, 2)
    mean = torch.nn.functional.avg_pool2d(grid, samples).permute(0, 2, 3, 1)
    first = samples // 2
    return Surface(
        mean,
        mask.reshape(-1, fine, fine)[:, first::samples, first::samples],
        depth.reshape(-1, fine, fine)[:, first::samples, first::samples],
    )


def _cross_box(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the box around every head; the end lies before the start for those that miss."""
    low, high = torch.tensor([-0.95, -0.985, -0.85]), torch.tensor([0.95, 0.95, 0.80])
    directions = torch.where(directions.abs() < 1e-9, 1e-9, directions)
    a, b = (low - origins) / directions, (high - origins) / directions
    return torch.minimum(a, b).amax(-1).clamp_min(0.05), torch.maximum(a, b).amin(-1)


def _ball(x: Tensor, y: Tensor, z: Tensor, radius: Tensor | float) -> Tensor:
    return torch.sqrt(x * x + y * y + z * z) - radius


def _ellipsoid(x: Tensor, y: Tensor, z: Tensor, a: Tensor | float, b: Tensor | float, c: Tensor | float) -> Tensor:
    u, v, w = x / a, y / b, z / c
    near = torch.sqrt(u * u + v * v + w * w + 1e-12)
    slope = torch.sqrt((u / a).square() + (v / b).square() + (w / c).square() + 1e-12)
    return near * (near - 1) / slope


def _cone(
    x: Tensor, y: Tensor, z: Tensor, top: tuple[float, float], end: tuple[Tensor, Tensor], thin: float, thick: Tensor
) -> Tensor:
    """A capsule in the plane x = 0 from `top` to `end` (y, z) that widens."""
    ay, az = y - top[0], z - top[1]
    by, bz = end[0] - top[0], end[1] - top[1]
    t = ((ay * by + az * bz) / (by * by + bz * bz)).clamp(0, 1)
    return torch.sqrt(x * x + (ay - t * by).square() + (az - t * bz).square()) - (thin + t * (thick - thin))


def _smin(a: Tensor, b: Tensor, k: float) -> Tensor:
    h = (k - (a - b).abs()).clamp_min(0) / k
    return torch.minimum(a, b) - h * h * k / 4


def _smax(a: Tensor, b: Tensor, k: float) -> Tensor:
    return -_smin(-a, -b, k)


def _step(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _grain(points: Tensor) -> Tensor:
    """A fixed fine texture in [-1, 1]."""
    x, y, z = (points * 31).unbind(-1)
    bent = torch.sin(x + 2.3 * torch.sin(1.7 * y)) * torch.sin(1.3 * y + 1.9 * torch.sin(1.1 * z))
    return bent * torch.sin(1.2 * z + x)


def _skin(dark: Tensor, warm: Tensor) -> Tensor:
    stops = torch.tensor(SKIN)
    place = dark.clamp(0, 1) * (len(stops) - 1)
    weights = (1 - (place[..., None] - torch.arange(len(stops)).to(dark)).abs()).clamp_min(0)
    tone = weights @ stops.to(dark)
    return tone * (1 + (warm[..., None] - 0.5) * torch.tensor([0.03, 0.0, -0.14]).to(dark))


def _wheel(hue: Tensor, chroma: float, value: Tensor) -> Tensor:
    angles = hue[..., None] * 2 * math.pi - torch.tensor([0.0, 2.0944, 4.1888]).to(hue)
    return (value[..., None] * (1 + chroma * torch.cos(angles))).clamp(0, 1)


_TO_LMS = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(srgb: Tensor) -> Tensor:
    """sRGB → OKLab (Ottosson 2020)."""
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    return (linear @ _TO_LMS.T.to(srgb)).clamp_min(0).pow(1 / 3) @ _TO_LAB.T.to(srgb)


def _srgb(lab: Tensor) -> Tensor:
    linear = ((lab @ torch.linalg.inv(_TO_LAB).T.to(lab)) ** 3) @ torch.linalg.inv(_TO_LMS).T.to(lab)
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
