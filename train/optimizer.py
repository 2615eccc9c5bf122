"""The optimizer and its learning-rate schedule, from plain fields of the run's config."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings as the published recipes name them (SPEC section 3).

    Attributes:
      name: "adam" or "adafactor", both with weight decay in proportion to the learning rate, which
        Adafactor takes as it is, not relative to the size of the weights.
      peak_lr, end_lr: learning rate after the warm-up and at the end.
      warmup: steps of linear warm-up from 0.
      schedule: "cosine", or "hold" (stay at the peak, then fall linearly in the last part).
      decay_fraction: length of that last part.
      b1, b2: Adam's moments.
      weight_decay: on matrices, not on norms, scales and scalars.
      clip_norm: global gradient norm limit; 0 for none.
    """

    name: str
    peak_lr: float
    end_lr: float
    warmup: int
    schedule: str = "cosine"
    decay_fraction: float = 0.3
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 1e-4
    clip_norm: float = 1.0


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Step -> learning rate, over a run of `steps`. Raises ValueError on an unknown schedule."""
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, config.peak_lr, config.warmup, steps, config.end_lr
        )
    if config.schedule == "hold":
        decay = int(steps * config.decay_fraction)
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, config.peak_lr, config.warmup),
                optax.constant_schedule(config.peak_lr),
                optax.linear_schedule(config.peak_lr, config.end_lr, decay),
            ],
            [config.warmup, steps - decay],
        )
    raise ValueError(f"optimizer.schedule is 'cosine' or 'hold', not '{config.schedule}'")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The gradient transformation. Raises ValueError on an unknown name or schedule."""
    rate = learning_rate(config, steps)
    if config.name == "adam":
        transform = optax.adamw(
            rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=_matrices
        )
    elif config.name == "adafactor":
        # optax.adafactor would take the decay off at every step, whatever the learning rate.
        transform = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(config.weight_decay, _matrices),
            optax.scale_by_learning_rate(rate),
        )
    else:
        raise ValueError(f"optimizer.name is 'adam' or 'adafactor', not '{config.name}'")
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), transform)
    return transform


def _matrices(params):
    return jax.tree.map(lambda x: x.ndim > 1, params)
