"""A tiny checkpoint with a vision tower, and pictures for it."""

from pathlib import Path

from flax import nnx

from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from diffusiongemma.vision.config import VisionConfig
from tests.data.images.talk import SPECIAL, TEMPLATE, tokenizer

# A patch is 2 pixels wide, so a soft token is 6 x 6 pixels.
TOWER = VisionConfig(
    width=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=8,
    num_places=96,
    patch_size=2,
    image_id=SPECIAL["<|image|>"],
    begin_image_id=SPECIAL["<|image>"],
    end_image_id=SPECIAL["<image|>"],
)


def save_seeing(folder: Path, vision: VisionConfig | None = TOWER) -> Path:
    """Writes the checkpoint of a model with eyes, whose answers depend on what it sees."""
    config = ModelConfig.preset(
        "tiny",
        vocab_size=256,
        canvas_size=8,
        layer_types=("full",),  # quick to compile; sliding ones: vision/test_parity.py
        window=16,
        max_length=512,
        stop_ids=(1, 5, 6),
        vision=vision,
    )
    save_checkpoint(DiffusionGemma(config, rngs=nnx.Rngs(3)), folder)
    tokenizer().save(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder
