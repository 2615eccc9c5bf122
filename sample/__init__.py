"""Sampling: one denoising step, the stop rules, and generation canvas by canvas."""

from sample.sampler import Generation, generate
from sample.step import SamplerConfig

__all__ = ["Generation", "SamplerConfig", "generate"]
