"""What training makes small. All functions return a scalar, the mean over the batch, without any weight."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.avatar.aetherist import checkpoints

PATH_DECAY = 0.01  # how fast the mean path length moves
Judge = Callable[[Tensor, Tensor], Tensor]  # images [B, C, H, W], cameras [B, 25] → logits [B, …]


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - real) + max(0, 1 + fake) of logits of any shape (the hinge, Lim & Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-fake: the generator's side of the hinge."""
    return -fake.mean()


def reconstruction_loss(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute difference (L1) of two batches of one shape; ValueError for two shapes."""
    if images.shape != targets.shape:
        raise ValueError(f"{list(images.shape)} and {list(targets.shape)} cannot be compared")
    return (images - targets).abs().mean()


def r1_penalty(discriminator: Judge, images: Tensor, cameras: Tensor) -> Tensor:
    """‖∂D/∂x‖² at each real picture (Mescheder et al. 2018, their R1 without γ/2), D being the sum of the logits."""
    images = images.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images, cameras).sum(), images, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def gradient_penalty(
    discriminator: Judge, real: Tensor, fake: Tensor, cameras: Tensor, mix: Tensor | None = None
) -> Tensor:
    """(‖∂D/∂x‖ - 1)² at places between real and fake pictures (WGAN-GP, Gulrajani et al. 2017).

    Args:
        real, fake: [B, C, H, W]. cameras: [B, 25], of both. mix: [B, 1, 1, 1], 0 (real) to 1 (fake); by default random.
    """
    mix = torch.rand(len(real), 1, 1, 1, device=real.device) if mix is None else mix
    between = torch.lerp(real.detach(), fake.detach(), mix).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between, cameras).sum(), between, create_graph=True)
    return ((slope.square().flatten(1).sum(1) + 1e-12).sqrt() - 1).square().mean()


def path_lengths(picture: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
    """‖J_wᵀ y‖ of each sample (StyleGAN2, Karras et al. 2020, equation 4).

    Args:
        picture: [B, C, H, W], made from w. w: [B, style_dim]. noise: y, like picture; by default N(0, 1 / (H · W)).

    Returns:
        [B], differentiable.
    """
    if noise is None:
        noise = torch.randn_like(picture) / math.sqrt(picture.shape[-2] * picture.shape[-1])
    (slope,) = torch.autograd.grad((picture * noise).sum(), w, create_graph=True)
    return (slope.square().sum(1) + 1e-12).sqrt()


class PathLengthPenalty(nn.Module):
    """(‖J_wᵀ y‖ - a)², where a is the moving average of all lengths so far, this batch's included.

    The picture to measure is the three planes, which are what the StyleGAN2 part of the generator draws:
    `grid_sample`, with which they are rendered, has no second derivative in torch.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, picture: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """picture [B, C, H, W] made from w [B, style_dim] → scalar; moves `mean`."""
        lengths = path_lengths(picture, w, noise)
        with torch.no_grad():
            self.mean.lerp_(lengths.mean().to(self.mean), PATH_DECAY)
        return (lengths - self.mean).square().mean()


class VGG19Features(nn.Module):
    """The convolutions of VGG-19 up to the fifth block's first, under torchvision's names `features.N.weight`, `.bias`.

    Weights stand still. Simonyan & Zisserman 2015, configuration E.
    """

    BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))  # width, convolutions
    TAPS = (1, 6, 11, 20, 29)  # the first rectified convolution of each block

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for number, (width, count) in enumerate(self.BLOCKS):
            layers += [nn.MaxPool2d(2)] if number else []
            for _ in range(count):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
        self.features = nn.Sequential(*layers)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W], in ImageNet's normalisation → five maps of features."""
        found = []
        for number, layer in enumerate(self.features):
            images = layer(images)
            if number in self.TAPS:
                found.append(images)
        return found


class PerceptualLoss(nn.Module):
    """Weighted L1 differences of VGG-19's features of a picture and of its target (pix2pixHD, Wang et al. 2018).

    Args:
        path: safetensors with torchvision's names; `features.0` to `features.28` are read, all else is ignored.

    Raises:
        ValueError: the file does not fit. FileNotFoundError.
    """

    WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
    SMALLEST = 16
    mean: Tensor
    deviation: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.network = VGG19Features()
        _load_part(self.network, Path(path))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1], sides of at least 16 (ValueError) → scalar; no gradient reaches the targets."""
        if min(images.shape[-2:]) < self.SMALLEST:
            raise ValueError(f"the perceptual loss needs pictures of at least {self.SMALLEST} × {self.SMALLEST}")
        with torch.no_grad():
            wanted = self.network(self._normalised(targets))
        found = self.network(self._normalised(images))
        parts = [k * (a - b).abs().mean() for k, a, b in zip(self.WEIGHTS, found, wanted, strict=True)]
        return torch.stack(parts).sum()

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.deviation


class IdentityBlock(nn.Module):
    """[B, inputs, H, W] → [B, outputs, H/2, W/2]: ArcFace's improved residual unit (Deng et al. 2019), without SE."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.skip(x)


class IdentityNetwork(nn.Module):
    """Whose face is it: [B, 3, 112, 112] in [-1, 1] → 512 numbers of unit length; one face, one direction.

    Our own small network (7.7 million numbers); a weights file has exactly the keys of its `state_dict`.
    """

    SIDE, NUMBERS = 112, 512
    WIDTHS = (32, 64, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        first, last = self.WIDTHS[0], self.WIDTHS[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first))
        self.blocks = nn.Sequential(*(IdentityBlock(a, b) for a, b in itertools.pairwise((first, *self.WIDTHS))))
        self.head = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Flatten(),
            nn.Linear(last * (self.SIDE // 16) ** 2, self.NUMBERS),
            nn.BatchNorm1d(self.NUMBERS),
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.head(self.blocks(self.stem(images))).float(), dim=-1)


class IdentityLoss(nn.Module):
    """1 - cosine of the embeddings of a picture and of its target (ArcFace's similarity), 0 to 2.

    Args:
        path: safetensors of an `IdentityNetwork` (with that network's keys; files of other networks do not fit).

    Raises:
        ValueError: the file does not fit. FileNotFoundError.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.network = IdentityNetwork()
        checkpoints.load_network(self.network, Path(path))
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Both [B, 3, H, W] in [-1, 1], of any size → scalar; no gradient reaches the targets."""
        with torch.no_grad():
            wanted = self._embedded(targets)
        return 1 - (self._embedded(images) * wanted).sum(-1).mean()

    def _embedded(self, images: Tensor) -> Tensor:
        side = IdentityNetwork.SIDE
        return self.network(F.interpolate(images, (side, side), mode="bilinear", antialias=True))


def required_file(name: str, weight: float, path: str | Path | None) -> Path | None:
    """The weights file of the loss `name`, or None if its weight is 0; ValueError if it is needed and was not given."""
    if weight <= 0:
        return None
    if path is None:
        raise ValueError(
            f"{name}_weight is {float(weight)}, but no {name}_weights file was given: "
            f"pass its path or set {name}_weight to 0"
        )
    return Path(path)


def _load_part(network: nn.Module, path: Path) -> None:
    """Fill a network from a file that may hold more; ValueError if it is no safetensors or lacks something."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            wanted, present = set(network.state_dict()), set(file.keys())
            if wanted - present:
                raise ValueError(f"{path} does not fit: it lacks {', '.join(sorted(wanted - present))}")
            network.load_state_dict({name: file.get_tensor(name) for name in wanted})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit: {error}") from error
