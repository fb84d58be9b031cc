"""Training a generator: `Trainer`, with its settings, losses, average and log."""

from workers.avatar.aetherist.training.ema import ExponentialMovingAverage
from workers.avatar.aetherist.training.log import TrainingLog, plot_log, read_log
from workers.avatar.aetherist.training.losses import (
    IdentityLoss,
    IdentityNetwork,
    PathLengthPenalty,
    PerceptualLoss,
    VGG19Features,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    path_lengths,
    r1_penalty,
    reconstruction_loss,
)
from workers.avatar.aetherist.training.trainer import Pictures, Trainer, TrainingDiverged, TrainingSettings

__all__ = [
    "ExponentialMovingAverage",
    "IdentityLoss",
    "IdentityNetwork",
    "PathLengthPenalty",
    "PerceptualLoss",
    "Pictures",
    "Trainer",
    "TrainingDiverged",
    "TrainingLog",
    "TrainingSettings",
    "VGG19Features",
    "discriminator_loss",
    "generator_loss",
    "gradient_penalty",
    "path_lengths",
    "plot_log",
    "r1_penalty",
    "read_log",
    "reconstruction_loss",
]
