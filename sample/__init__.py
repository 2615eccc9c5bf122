"""Sampling: one denoising step, the stop rules, generation canvas by canvas or left to right."""

from sample.autoregressive import AutoregressiveConfig, generate_autoregressive
from sample.sampler import Generation, Snapshot, generate
from sample.split_model import Frozen
from sample.step import SamplerConfig

__all__ = [
    "AutoregressiveConfig",
    "Frozen",
    "Generation",
    "SamplerConfig",
    "Snapshot",
    "generate",
    "generate_autoregressive",
]
