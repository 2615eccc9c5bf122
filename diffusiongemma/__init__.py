"""DiffusionGemma in Flax NNX: the network, its diffusion process and its checkpoints."""

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.load_save import load_checkpoint, save_checkpoint
from diffusiongemma.transformer import DiffusionGemma

__all__ = ["DiffusionGemma", "ModelConfig", "load_checkpoint", "save_checkpoint"]
