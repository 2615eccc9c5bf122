"""The vision tower of a run: the shape of a new one, its weights, and the room for images."""

import dataclasses

import jax
from flax import nnx
from jax.sharding import Mesh

from data.images.prompt import ImageTokens
from data.images.room import ImageRoom
from data.images.sources import PictureReader
from data.settings import build
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.sharding import state_sharding
from diffusiongemma.vision.config import VisionConfig
from diffusiongemma.vision.tower import VisionTower
from train.config import ConfigError, ImagesConfig

# Fields of a VisionConfig -> the tokens whose ids they are.
TOKENS = {"begin_image_id": "<|image>", "image_id": "<|image|>", "end_image_id": "<image|>"}


def with_tower(
    shape: ModelConfig, images: ImagesConfig, tokenizer: Tokenizer | None = None
) -> ModelConfig:
    """The shape of the model that a run trains: with a new vision tower, if the run makes one.

    Args:
      shape: the model that the run starts from.
      images: the run's images.
      tokenizer: gives the ids of the image tokens; None for those of the released model.

    Raises:
      ConfigError: the rows have images and the model has no tower, or there would be two; a field
        of the tower cannot be used; or the tokenizer has no image tokens.
    """
    if not images.tower:
        if images.per_row and shape.vision is None:
            raise ConfigError(
                "images.per_row: the model has no vision tower: start from one that has one, or "
                "give the fields of a new one as images.tower (configs/read_grid.py has an example)"
            )
        return shape
    ids = {}
    if tokenizer is not None:
        try:
            ids = {field: tokenizer.token_id(token) for field, token in TOKENS.items()}
        except ValueError as error:
            raise ConfigError(f"images.tower: {error}: give another tokenizer.json") from None
    try:
        vision = build(VisionConfig, ids | dict(images.tower), "images.tower.")
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if shape.vision not in (None, vision):
        raise ConfigError("images.tower: the model has a vision tower of another shape already")
    return dataclasses.replace(shape, vision=vision)


def room_for(
    shape: ModelConfig, budgets: tuple[int, int], tokenizer: Tokenizer, per_row: int = 1
) -> ImageRoom:
    """The room for images in the prompts of a model.

    Args:
      shape: the model.
      budgets: the largest numbers of soft tokens of an image, and of a frame of a video.
      tokenizer: the model's.
      per_row: the number of images of a row.

    Raises:
      ValueError: the model has no vision tower, or the tokenizer has no image tokens.
    """
    vision = shape.vision
    if vision is None:
        raise ValueError("the model has no vision tower, so it sees no images")
    tokens = vision.image_id, vision.begin_image_id, vision.end_image_id
    reader = PictureReader(
        image_tokens=budgets[0],
        frame_tokens=budgets[1],
        patch_size=vision.patch_size,
        pool_size=vision.pool_size,
    )
    return ImageRoom(per_row, reader, ImageTokens.of(tokenizer, *tokens))


def add_tower(model: DiffusionGemma, vision: VisionConfig, seed: int, mesh: Mesh) -> None:
    """Gives a model a vision tower with random weights, in place.

    Args:
      model: a model without a tower.
      vision: the shape of the tower.
      seed: random seed of the weights.
      mesh: where they go.
    """
    width, dtype = model.config.width, model.dtype

    def create() -> nnx.Dict:
        tower = VisionTower(vision, width, rngs=nnx.Rngs(seed), dtype=dtype)
        return nnx.Dict(vision=tower)  # so that the paths are those in a model

    graphdef, shapes = nnx.split(nnx.eval_shape(create))
    where = state_sharding(shapes, mesh)
    made = nnx.merge(graphdef, jax.jit(lambda: nnx.state(create()), out_shardings=where)())
    model.vision = made["vision"]
    model.config = dataclasses.replace(model.config, vision=vision)
