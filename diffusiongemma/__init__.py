"""DiffusionGemma in Flax NNX: the network, its diffusion process and its checkpoints.

The names below are imported when they are first used, so that a program that needs only the
configuration does not load the checkpoint libraries.
"""

import importlib
from typing import Any

_HOMES = {
    "DiffusionGemma": "diffusiongemma.transformer",
    "Images": "diffusiongemma.vision.images",
    "ModelConfig": "diffusiongemma.config",
    "load_checkpoint": "diffusiongemma.formats.load_save",
    "save_checkpoint": "diffusiongemma.formats.load_save",
}

__all__ = ["DiffusionGemma", "Images", "ModelConfig", "load_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
