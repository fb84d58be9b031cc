"""Schedulers by name, made from a model's own scheduler config."""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers import SchedulerMixin

KARRAS = {"use_karras_sigmas": True}
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {}),
    "dpmsolver++_karras": ("DPMSolverMultistepScheduler", KARRAS),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def make_scheduler(own: SchedulerMixin, name: str | None) -> SchedulerMixin:
    """A fresh scheduler, so that no state leaks between requests; without a name, of the model's own kind."""
    if name is None:
        return type(own).from_config(own.config)
    kind, options = NAMES[name]
    return getattr(diffusers, kind).from_config(own.config, **options)


def scheduler_name(scheduler: SchedulerMixin) -> str:
    """The name under which a client can ask for this scheduler, else its class."""
    karras = bool(scheduler.config.get("use_karras_sigmas"))
    for name, (kind, options) in NAMES.items():
        if kind == type(scheduler).__name__ and bool(options) == karras:
            return name
    return type(scheduler).__name__
