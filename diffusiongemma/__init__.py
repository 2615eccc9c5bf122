"""DiffusionGemma in Flax NNX: the network, its diffusion process and its checkpoints."""

from diffusiongemma.config import ModelConfig
from diffusiongemma.transformer import DiffusionGemma

__all__ = ["DiffusionGemma", "ModelConfig"]
