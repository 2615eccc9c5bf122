"""Sampling: generation canvas by canvas or left to right, and the rule of a denoising step."""

from sample.autoregressive import AutoregressiveConfig, generate_autoregressive
from sample.sampler import Generation, Snapshot, generate
from sample.split_model import SplitModel
from sample.step import Proposal, SamplerConfig, Start, Step, accept, entropy_bound_rule

__all__ = [
    "AutoregressiveConfig",
    "Generation",
    "Proposal",
    "SamplerConfig",
    "Snapshot",
    "SplitModel",
    "Start",
    "Step",
    "accept",
    "entropy_bound_rule",
    "generate",
    "generate_autoregressive",
]
