"""The training loop, from top to bottom: data, model, steps, evaluation, checkpoints, result."""

import contextlib
import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from data.images.budgets import save_image_budget
from data.pipeline import Packer, make_dataset
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from diffusiongemma.formats.adapter import Adapter
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint
from diffusiongemma.lora import add_lora, merge_lora
from diffusiongemma.quantized_model import quantized_precision
from diffusiongemma.sharding import param_sharding, place_batch
from diffusiongemma.transformer import create_model
from files.text_file import read_text
from files.whole_file import write_file
from sample.checkpoint import Checkpoint
from train.checkpointer import Checkpointer
from train.config import ConfigError, LoraConfig, RunConfig, differences
from train.optimizer import make_optimizer
from train.run_log import RunLog
from train.step import has_lora, init_state, make_train_step
from train.validation import HeldOut
from train.vision import add_tower, room_for, with_tower
from train.workdir import by_first, held_workdir, is_new


def train(config: RunConfig, workdir: Path) -> Path:
    """Trains a run to its end. It begins where the last checkpoint in the workdir stopped, if any.

    While it trains, the run writes config.json, checkpoints/, metrics.jsonl and tb/ to its workdir.
    A run that begins with an adapter trains the adapter's factors. At the end it writes:
      model/: the trained model in the released layout, with LoRA factors merged in and with its
        vision tower, if it has one. A run has no model/ if its factors cannot be merged: the
        weights are quantized, or the factors are not the same for encode and denoise.
      adapter/: the LoRA factors alone, if the run trained factors beside a checkpoint.
    The tokenizer and the chat template are copied from the folder of config.init, if it has them.
    They lie beside the weights with the sampler's settings.

    With several processes (jax.distributed), each process reads its part of every batch, and the
    first process writes the figures. Then there is no model/ and no adapter/:
    `python -m scripts.convert --from=WORKDIR` makes them.

    Args:
      config: the run.
      workdir: the run's folder. It is made if it does not exist.

    Returns:
      the path of model/, or of adapter/ if there is no model/. With several processes it is the
      path of the workdir.

    Raises:
      NonFiniteLoss: the loss became NaN or infinite. Earlier checkpoints stay.
      ConfigError: the config does not fit, the workdir belongs to another config, or another
        training writes to it.
      ValueError: the checkpoint, the tokenizer or the data cannot be used.
      OSError: a file cannot be read or written.
    """
    mesh = config.mesh.make()
    with held_workdir(workdir), jax.set_mesh(mesh):
        return _train(config, workdir, mesh)


def _train(config: RunConfig, workdir: Path, mesh: Mesh) -> Path:
    """Does the work of `train`, on the devices of a mesh."""
    if config.init:
        start = Checkpoint.open(config.init)
    else:
        start = Checkpoint.fresh(ModelConfig.preset(config.preset, **config.overrides))
    # The data are opened first, so that their faults show before weights are read.
    batches, held_out = open_data(config, start)
    model = build_model(config, start, mesh)
    shape = model.config
    by_first(lambda: claim_workdir(config, workdir), workdir)
    by_first(lambda: save_companions(workdir, config, start, shape), workdir)

    description = describe(config, model.config, start)
    optimizer = make_optimizer(config.optimizer, config.steps)
    graphdef, state, frozen = init_state(
        model, optimizer, mesh, ema=config.ema > 0, tower=config.images.trained
    )
    del model
    train_step = make_train_step(
        graphdef, optimizer, config.loss, config.seed, config.accumulate, config.ema, like=state
    )

    with contextlib.ExitStack() as stack:
        checkpointer = Checkpointer(workdir, config.keep, description)
        stack.enter_context(closing(checkpointer))
        first = checkpointer.latest() or 0
        if first:
            state, position = checkpointer.restore(first, state)
            batches.set_state(position)
            if description["base_fingerprint"]:
                open_checkpoint(workdir)  # raises an error unless the factors belong to this base
        log = RunLog(workdir, first, config, checkpointer.latest)
        stack.enter_context(closing(log))
        for step in range(first + 1, config.steps + 1):
            state, figures = train_step(state, frozen, place_batch(next(batches), mesh))
            log.add(step, figures)
            last = step == config.steps
            saves = step % config.checkpoint_every == 0 or last
            if step % config.log_every == 0 or saves:
                log.write()
            if saves:
                checkpointer.save(state, batches.get_state())
            if config.eval.every and (step % config.eval.every == 0 or last):
                log.evaluated(step, *held_out.evaluate(nnx.merge(graphdef, state.result, frozen)))

    if jax.process_count() > 1:
        return workdir
    return export(config, workdir, start, nnx.merge(graphdef, state.result, frozen))


def open_data(config: RunConfig, start: Checkpoint) -> tuple[Iterator[dict[str, Any]], HeldOut]:
    """Opens the run's data.

    Returns:
      (batches, held_out): an iterator over this process's part of each batch, and the held-out
      items. The iterator's state is the position in the data.

    Raises:
      ValueError: a setting, a file or a line of it cannot be used.
      OSError: a file cannot be read.
    """
    loss = config.loss
    room, images = None, config.images
    if images.per_row:
        budgets = images.soft_tokens, images.soft_tokens
        shape = shape_of_run(config, start)
        room = room_for(shape, budgets, start.tokenizer, images.per_row)
    sizes = config.data.prompt_length, loss.canvas_size, loss.num_canvases
    packer = Packer(start.template, *sizes, room)
    task = config.data.task
    splits = task.open(config.seed, packer, test=config.eval.every > 0)
    batches = make_dataset(
        splits.train,
        lambda item: packer(task.conversation(item), task.parts(item)),
        batch_size=config.batch_size,
        seed=config.seed,
        part=(jax.process_index(), jax.process_count()),
        workers=config.workers,
    )
    return iter(batches), HeldOut(config, splits.test, packer)


def shape_of_run(config: RunConfig, start: Checkpoint) -> ModelConfig:
    """The shape of the model that a run trains; raises ConfigError as vision.with_tower does."""
    return with_tower(start.config, config.images, start.tokenizer)


def build_model(config: RunConfig, start: Checkpoint, mesh: Mesh) -> DiffusionGemma:
    """Builds the model that the run starts from, from a checkpoint or with random weights.

    A vision tower that the run makes has random weights.

    Raises:
      ConfigError: the checkpoint's weights cannot be trained as the config says, or the model's
        context is too short.
      ValueError: the checkpoint cannot be used, or its tokenizer or the mesh does not fit the
        model.
    """
    dtype, shape = jnp.dtype(config.dtype), shape_of_run(config, start)
    if config.init:
        if start.adapter is not None:
            check_lora(config, start.adapter)
        model = start.load(dtype=dtype, sharding=param_sharding(mesh))
        if quantized_precision(model) and not config.lora.rank and not has_lora(model):
            raise ConfigError(
                f"init: {config.init} is quantized, so its weights cannot be trained: train LoRA "
                "factors beside them, for example with --config.lora.rank=8"
            )
        if shape.vision is not None and model.vision is None:
            config.mesh.check(shape)
            add_tower(model, shape.vision, config.seed, mesh)
    else:
        start.check_tokenizer()
        config.mesh.check(shape)
        model = create_model(shape, config.seed, dtype, mesh)
    return prepare(model, config)


def check_lora(config: RunConfig, adapter: Adapter) -> None:
    """Checks that a run does not ask for other LoRA factors than those of its adapter.

    Raises:
      ConfigError: it asks for other ones.
    """
    given = LoraConfig(adapter.rank, adapter.alpha)
    if config.lora.rank and config.lora != given:
        raise ConfigError(
            f"init: {config.init} has LoRA factors of rank {given.rank} and alpha {given.alpha:g}, "
            "which the run trains, and config.lora asks for others: set lora.rank to 0, or merge "
            "the factors first, with python -m scripts.convert"
        )


def prepare(model: DiffusionGemma, config: RunConfig) -> DiffusionGemma:
    """Prepares a model for the run, in place: its canvas size, remat, and LoRA factors if wanted.

    A model that has factors keeps them.

    Returns:
      the same model.

    Raises:
      ConfigError: a row of the run's batches is longer than the model's context.
      ValueError: no linear map matches config.lora.pattern.
    """
    loss, room = config.loss, model.config.max_length
    length = config.data.prompt_length + loss.num_canvases * loss.canvas_size
    if length > room:
        raise ConfigError(
            f"data.prompt_length + loss.num_canvases x loss.canvas_size = {length} exceeds the "
            f"model's context of {room}"
        )
    model.config = dataclasses.replace(model.config, canvas_size=config.loss.canvas_size)
    model.remat = config.remat
    if config.lora.rank and not has_lora(model):
        add_lora(
            model,
            config.lora.rank,
            config.lora.alpha,
            rngs=nnx.Rngs(config.seed + 1),
            pattern=config.lora.pattern,
        )
    return model


def describe(config: RunConfig, model: ModelConfig, start: Checkpoint) -> dict[str, Any]:
    """Describes how to build the model again. Each checkpoint holds this description."""
    init, lora = config.init, dataclasses.asdict(config.lora)
    if lora["rank"] or not config.images.trained:  # the checkpoint does not hold the tower
        model = dataclasses.replace(model, vision=None)
    adapter = start.adapter if init else None
    if adapter is not None:
        init, factors = str(adapter.base), sorted(adapter.weights.dtypes)
        lora |= {"rank": adapter.rank, "alpha": adapter.alpha, "factors": factors}
    return {
        "config": model.to_fields(),
        "dtype": config.dtype,
        "init": init,
        "lora": lora,
        "base_fingerprint": start.fingerprint if init and lora["rank"] else "",
    }


def export(config: RunConfig, workdir: Path, start: Checkpoint, model: DiffusionGemma) -> Path:
    """Writes model/ and adapter/ of a finished run, as `train` says.

    Args:
      config: the run.
      workdir: the run's folder.
      start: the checkpoint that the run started from.
      model: the trained model. LoRA factors are merged into it if they can be.

    Returns:
      the path of model/, or of adapter/ if there is no model/.
    """
    adapter = workdir / "adapter"
    if config.init and has_lora(model) and not adapter.exists():
        convert_checkpoint(workdir, adapter, "peft")
    if quantized_precision(model) or model.separate_lora:
        return adapter
    merge_lora(model)
    # The config.json of a model that got eyes does not describe them.
    kept = bool(config.init) and not config.images.tower
    untouched = start.stored.untouched if kept else None
    save_checkpoint(
        model,
        workdir / "model",
        untouched=untouched,
        beside=lambda folder: save_companions(folder, config, start, model.config),
    )
    return workdir / "model"


def save_companions(folder: Path, config: RunConfig, start: Checkpoint, shape: ModelConfig) -> None:
    """Puts beside the weights of a run's model the tokenizer and its like."""
    start.save_companions(folder, config.sampler)
    if config.images.per_row:
        vision = shape.vision
        save_image_budget(folder, config.images.soft_tokens, vision.patch_size, vision.pool_size)


def claim_workdir(config: RunConfig, workdir: Path) -> None:
    """Makes the workdir and stores the config in it.

    Raises:
      ConfigError: the workdir holds another config, or files that are not a run's.
    """
    path, text = workdir / "config.json", config.to_json()
    if path.exists():
        try:
            changed = differences(read_text(path), text)
        except ValueError as error:
            raise ConfigError(f"{path}: not the config of a run: {error}") from None
        if changed:
            raise ConfigError(
                f"{workdir} belongs to another config ({'; '.join(changed)}): "
                "choose a new --workdir, or the old config to go on"
            )
        return
    if not is_new(workdir):
        raise ConfigError(
            f"{workdir} is not empty and is not the folder of a run: choose a new --workdir"
        )
    write_file(path, text.encode())
