"""The optimizer and its learning-rate schedule, from plain fields of the run's config."""

import dataclasses
from typing import Any, Literal, get_args

import jax
import optax
from optax import contrib

from diffusiongemma.parameters import VISION

Name = Literal["adam", "adafactor", "muon"]
Schedule = Literal["cosine", "hold"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer, named as in the published recipes (docs/MODEL.md, Losses).

    Attributes:
      name: "adam", "adafactor" or "muon". Adafactor's updates are as long as the learning rate
        says; they are not scaled by the size of the weights. Muon moves the matrices of layers
        along their orthogonalized momentum, and everything else is trained by Adam.
      peak_lr: learning rate after the warm-up.
      end_lr: learning rate at the end of the run.
      warmup: number of steps in which the learning rate rises linearly from 0 to its peak.
      schedule: what comes after the warm-up. "cosine" falls along a cosine to the end of the run.
        "hold" stays at the peak and falls linearly in the last part of the run.
      decay_fraction: length of that last part, as a fraction of the run's steps.
      b1: decay rate of Adam's first moments (means of gradients). Muon's momentum has 0.95.
      b2: decay rate of Adam's second moments (means of squared gradients).
      muon_rms: root mean square of Muon's updates at a learning rate of 1. With the default, they
        are about as long as Adam's (Liu et al., Muon is Scalable for LLM Training, 2025).
      weight_decay: how far a step shrinks matrices, as a fraction of the learning rate. Norms,
        scales and scalars are not shrunk.
      clip_norm: limit for the norm of all gradients together; 0 for no limit.
      text_rate: learning rate of the text model, as a multiple of that of the vision tower. With 0,
        only the tower is trained.

    Raises:
      ValueError: the name or the schedule is unknown, text_rate is negative, or muon_rms is not
        above 0.
    """

    name: Name
    peak_lr: float
    end_lr: float
    warmup: int
    schedule: Schedule = "cosine"
    decay_fraction: float = 0.3
    b1: float = 0.9
    b2: float = 0.99
    muon_rms: float = 0.2
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    text_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ValueError(
                f"optimizer.name must be 'adam', 'adafactor' or 'muon', not '{self.name}'"
            )
        if self.schedule not in get_args(Schedule):
            raise ValueError(
                f"optimizer.schedule must be 'cosine' or 'hold', not '{self.schedule}'"
            )
        if self.text_rate < 0:
            raise ValueError(f"optimizer.text_rate must be 0 or more, not {self.text_rate}")
        if self.muon_rms <= 0:
            raise ValueError(f"optimizer.muon_rms must be above 0, not {self.muon_rms}")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate as a function of the steps done, for a run of `steps` steps."""
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0, config.peak_lr, config.warmup, steps, config.end_lr
        )
    decay = int(steps * config.decay_fraction)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.peak_lr, config.warmup),
            optax.constant_schedule(config.peak_lr),
            optax.linear_schedule(config.peak_lr, config.end_lr, decay),
        ],
        [config.warmup, steps - decay],
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of a run of `steps` steps, with clipping, weight decay and learning rate."""
    rate = learning_rate(config, steps)
    if config.name == "adam":
        transform = optax.adamw(
            rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=_matrices
        )
    elif config.name == "muon":
        # contrib.muon would shrink all that Adam trains, or nothing of it.
        transform = optax.chain(
            optax.partition(
                {"muon": _muon(config.muon_rms), "adam": optax.scale_by_adam(config.b1, config.b2)},
                lambda params: jax.tree_util.tree_map_with_path(_trained_by, params),
            ),
            optax.add_decayed_weights(config.weight_decay, _matrices),
            optax.scale_by_learning_rate(rate),
        )
    else:
        # optax.adafactor would apply the weight decay at full strength at every step, and not in
        # proportion to the learning rate.
        transform = optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.add_decayed_weights(config.weight_decay, _matrices),
            optax.scale_by_learning_rate(rate),
        )
    if not config.text_rate:  # the text model needs neither a state nor arithmetic
        parts = {"tower": transform, "text": optax.set_to_zero()}
        transform = optax.partition(
            parts,
            lambda params: jax.tree.map(lambda text: "text" if text else "tower", _text(params)),
        )
    elif config.text_rate != 1:
        transform = optax.chain(transform, optax.masked(optax.scale(config.text_rate), _text))
    if config.clip_norm:
        return optax.chain(optax.clip_by_global_norm(config.clip_norm), transform)
    return transform


def _muon(rms: float) -> optax.GradientTransformation:
    """Orthogonalizes the momentum of matrices, those in the last two axes, and scales it."""

    def axes(params: optax.Params) -> Any:
        return jax.tree.map(lambda x: contrib.MuonDimensionNumbers(x.ndim - 2, x.ndim - 1), params)

    def scaled(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        # An orthogonal matrix of n rows and m columns has a root mean square of max(n, m) ** -0.5.
        return jax.tree.map(lambda x: x * (rms * max(x.shape[-2:]) ** 0.5), updates)

    return optax.chain(
        contrib.scale_by_muon(weight_dimension_numbers=axes), optax.stateless(scaled)
    )


def _trained_by(path: tuple[Any, ...], param: jax.Array) -> Name:
    """What trains a parameter if the optimizer is "muon"."""
    in_layer = any(getattr(part, "key", None) == "layers" for part in path)
    return "muon" if in_layer and param.ndim > 1 else "adam"


def _text(params: optax.Params) -> Any:
    """Which of the parameters belong to the text model: a tree of bools."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key != VISION, params)


def _matrices(params: optax.Params) -> Any:
    """Which of the parameters have two axes or more: a tree of bools."""
    return jax.tree.map(lambda x: x.ndim > 1, params)
