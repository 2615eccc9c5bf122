"""The training loop, from top to bottom: model, data, steps, evaluation, checkpoints."""

import dataclasses
import math
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from data.pipeline import Packer, make_dataset
from data.sources import open_sources
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from diffusiongemma.formats.adapter import fingerprint
from diffusiongemma.formats.atomic_folder import write_file
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.formats.load_save import convert_checkpoint
from diffusiongemma.lora import add_lora, merge_lora
from diffusiongemma.quantized_model import quantized_precision
from diffusiongemma.sharding import param_sharding, place_batch
from diffusiongemma.transformer import create_model
from train.checkpointer import Checkpoints
from train.companions import check_tokenizer, load_template, save_companions
from train.config import ConfigError, RunConfig, differences
from train.metrics_writer import MetricsWriter, progress_bar
from train.optimizer import make_optimizer
from train.step import has_lora, init_state, make_train_step
from train.validation import HeldOut


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite."""


def build_model(config: RunConfig, mesh: Mesh) -> DiffusionGemma:
    """The model that the run starts from: random weights or a checkpoint, with LoRA if wanted."""
    dtype = jnp.dtype(config.dtype)
    if config.init:
        model = load_checkpoint(config.init, dtype=dtype, sharding=param_sharding(mesh))
        if has_lora(model):
            raise ConfigError(
                f"init: {config.init} has LoRA factors beside its base: merge them first, with "
                "python -m scripts.convert"
            )
        if quantized_precision(model) and not config.lora.rank:
            raise ConfigError(
                f"init: {config.init} is quantized, so its weights cannot be trained: train LoRA "
                "factors beside them, as --config.lora.rank=8"
            )
    else:
        shape = ModelConfig.preset(config.preset, **config.overrides)
        config.mesh.check(shape)
        model = create_model(shape, config.seed, dtype, mesh)
    return prepare(model, config)


def prepare(model: DiffusionGemma, config: RunConfig) -> DiffusionGemma:
    """What the run changes in the model, in place: its canvas size, and LoRA if wanted.

    Raises ConfigError if a row of the run's batches is longer than the model's context.
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
    if config.lora.rank:
        add_lora(
            model,
            config.lora.rank,
            config.lora.alpha,
            rngs=nnx.Rngs(config.seed + 1),
            pattern=config.lora.pattern,
        )
    return model


def train(config: RunConfig, workdir: Path, tokenizer: Tokenizer) -> Path:
    """Trains to config.steps, from where the workdir's last checkpoint stopped.

    Writes to workdir: config.json, checkpoints/, metrics.jsonl, tb/, and at the end model/, the
    result in the released layout with LoRA factors merged in, which adapter/ has alone. Beside the
    weights lie the tokenizer and what else of checkpoint.COMPANIONS the init's folder has. Of an
    init that is quantized there is no model/: factors cannot be merged into it.

    Args:
      config: the run. A workdir of another config is refused (ConfigError names the fields).
      workdir: its folder, made if need be.
      tokenizer: the init's, or ours; see text.load_tokenizer. Its chat template is found there too.

    With several processes (jax.distributed) each reads its part of every batch, the first writes
    the figures, and model/ and adapter/ are left to `python -m scripts.convert --from=WORKDIR`.

    Returns:
      the path of model/, or of adapter/ if there is no model/; with several processes, of the
      workdir.

    Raises:
      NonFiniteLoss: at the first step whose loss is not finite; earlier checkpoints stay.
      ConfigError, ValueError: bad config, workdir or data.
    """
    mesh = config.mesh.make()
    with jax.set_mesh(mesh):
        return _train(config, workdir, tokenizer, mesh)


def _train(config: RunConfig, workdir: Path, tokenizer: Tokenizer, mesh: Mesh) -> Path:
    # Data first: what is wrong with them shows before the weights are read and the workdir is made.
    packer = Packer(
        load_template(config.init, tokenizer),
        config.data.prompt_length,
        config.loss.canvas_size,
        config.loss.num_canvases,
    )
    sources = open_sources(config.data, config.seed, packer, test=config.eval.every > 0)
    held_out = HeldOut(config, sources, tokenizer)
    batches = iter(
        make_dataset(
            sources.train,
            sources.to_row,
            batch_size=config.batch_size,
            seed=config.seed,
            part=(jax.process_index(), jax.process_count()),
        )
    )

    model = build_model(config, mesh)
    check_tokenizer(config.init, tokenizer, model)
    if jax.process_index() == 0:
        claim_workdir(config, workdir)
        save_companions(config.init, tokenizer, config.sampler, workdir)
    multihost_utils.sync_global_devices("workdir")
    adapts = config.lora.rank > 0 and config.init != ""
    description = {
        "config": dataclasses.asdict(model.config),
        "dtype": config.dtype,
        "init": config.init,
        "lora": dataclasses.asdict(config.lora),
        "base_fingerprint": fingerprint(open_checkpoint(config.init)[0]) if adapts else "",
    }
    optimizer = make_optimizer(config.optimizer, config.steps)
    graphdef, state, frozen = init_state(model, optimizer, mesh, ema=config.ema > 0)
    del model
    train_step = make_train_step(
        graphdef, optimizer, config.loss, config.seed, config.accumulate, config.ema, like=state
    )

    checkpoints = Checkpoints(workdir, config.keep, description)
    first = checkpoints.latest() or 0
    if first:
        if adapts:
            open_checkpoint(workdir)  # or the factors would go on on whatever is at init now
        state, position = checkpoints.restore(first, state)
        batches.set_state(position)
    metrics = MetricsWriter(workdir, first)
    seconds_before = metrics.last["seconds"] if metrics.last else 0.0
    started = time.monotonic()

    def evaluate(step: int) -> None:
        figures, answer = held_out.evaluate(nnx.merge(graphdef, state.result, frozen))
        figures["seconds"] = seconds_before + time.monotonic() - started
        metrics.write(step, figures)
        bar.write(f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        bar.write(f"step {step}, an answer: {answer}")

    pending: list[tuple[int, dict[str, jax.Array]]] = []  # steps whose figures are not yet read

    def read_figures() -> dict[str, float]:
        """Averages of the steps since the last call; raises NonFiniteLoss."""
        read = [(step, jax.device_get(figures)) for step, figures in pending]
        pending.clear()
        for step, figures in read:
            if not math.isfinite(figures["loss"]):
                raise NonFiniteLoss(
                    f"the loss of step {step} is {figures['loss']}; the last good checkpoint is "
                    f"of step {checkpoints.latest() or 'none'}: try a lower optimizer.peak_lr"
                )
        return {k: float(np.mean([f[k] for _, f in read])) for k in read[0][1]}

    with (
        closing(checkpoints),
        closing(metrics),
        progress_bar(config.steps, first, workdir.name) as bar,
    ):
        for step in range(first + 1, config.steps + 1):
            state, figures = train_step(state, frozen, place_batch(next(batches), mesh))
            pending.append((step, figures))
            bar.update()
            last = step == config.steps
            saves = step % config.checkpoint_every == 0 or last
            if step % config.log_every == 0 or saves:
                figures = read_figures()
                figures["seconds"] = seconds_before + time.monotonic() - started
                metrics.write(step, figures)
                rate = bar.format_dict["rate"] or 0.0
                bar.set_postfix_str(
                    f"loss {figures['loss']:.4f}, {rate * config.batch_size:.0f} examples/s"
                )
            if saves:
                checkpoints.save(state, batches.get_state())
            if config.eval.every and (step % config.eval.every == 0 or last):
                evaluate(step)

    if jax.process_count() > 1:
        return workdir
    if adapts and not (workdir / "adapter").exists():
        convert_checkpoint(workdir, workdir / "adapter", "peft")
    model = nnx.merge(graphdef, state.result, frozen)
    if quantized_precision(model):
        return workdir / "adapter"
    merge_lora(model)
    save_checkpoint(model, workdir / "model")
    save_companions(config.init, tokenizer, config.sampler, workdir / "model")
    return workdir / "model"


def claim_workdir(config: RunConfig, workdir: Path) -> None:
    """Stores the config in the workdir; raises ConfigError if another run's is there."""
    path, text = workdir / "config.json", config.to_json()
    if path.exists():
        changed = differences(path.read_text(), text)
        if changed:
            raise ConfigError(
                f"{workdir} belongs to another config ({'; '.join(changed)}): "
                "choose a new --workdir, or the old config to go on"
            )
        return
    if workdir.exists() and any(workdir.iterdir()):
        raise ConfigError(f"{workdir} is not empty and not a run's: choose a new --workdir")
    write_file(path, text.encode())
