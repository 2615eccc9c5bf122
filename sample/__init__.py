"""Sampling: generation canvas by canvas or left to right, and the rule of a denoising step."""

from sample.autoregressive import AutoregressiveConfig, generate_autoregressive
from sample.generation import Generation, Snapshot
from sample.given import Given
from sample.obey import Constraint
from sample.prefill import KeptPrompt
from sample.sampler import generate
from sample.split_model import SplitModel
from sample.starts import Starts
from sample.step import Proposal, SamplerConfig, Start, Step, accept, entropy_bound_rule
from sample.stopping import NonFiniteLogits

__all__ = [
    "AutoregressiveConfig",
    "Constraint",
    "Generation",
    "Given",
    "KeptPrompt",
    "NonFiniteLogits",
    "Proposal",
    "SamplerConfig",
    "Snapshot",
    "SplitModel",
    "Start",
    "Starts",
    "Step",
    "accept",
    "entropy_bound_rule",
    "generate",
    "generate_autoregressive",
]
