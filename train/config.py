"""A run: everything that its result depends on, as frozen dataclasses."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from data.sources import DataConfig
from diffusiongemma.sharding import MeshConfig
from sample.step import SamplerConfig
from train.loss import LossConfig
from train.optimizer import OptimizerConfig


class ConfigError(ValueError):
    """A field that is unknown, missing or out of range."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """rank 0 trains the full weights; else alpha and pattern are those of lora.add_lora."""

    rank: int = 0
    alpha: float = 16.0
    pattern: str = ".*"


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Periodic evaluation: `num` held-out examples every `every` steps (0: never); see HeldOut."""

    every: int = 0
    num: int = 64
    batch_size: int = 64


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
      seed: of weights, noise and data order.
      steps: optimizer steps.
      batch_size: B, rows a step.
      preset, overrides: the model's ModelConfig, where it starts from random weights.
      init: a checkpoint folder to start from; then preset and overrides are not used.
      dtype: "float32" or "bfloat16", of the weights.
      data, loss, optimizer, lora, eval, sampler: see their classes.
      mesh: devices; a run may go on on another mesh (see sharding.MeshConfig).
      accumulate: parts of the batch whose gradients are computed one after another and averaged.
      remat: compute activations again for the gradients instead of keeping them: less memory.
      ema: decay of a running mean of the trained weights, which is then evaluated and saved as the
        result; 0 for none.
      log_every, checkpoint_every: in steps.
      keep: checkpoints kept.
    """

    seed: int
    steps: int
    batch_size: int
    data: DataConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    preset: str = ""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    init: str = ""
    dtype: str = "float32"
    lora: LoraConfig = dataclasses.field(default_factory=LoraConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    accumulate: int = 1
    remat: bool = False
    ema: float = 0.0
    log_every: int = 20
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self):
        for name in (
            *("steps", "batch_size", "accumulate"),
            *("log_every", "checkpoint_every", "keep"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        parts = self.accumulate * self.mesh.data * self.mesh.fsdp
        if self.batch_size % parts:
            raise ConfigError(
                f"accumulate x mesh.data x mesh.fsdp = {parts} does not divide batch_size "
                f"{self.batch_size}"
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, not {self.ema}")
        if bool(self.preset) == bool(self.init):
            given = "not both" if self.init else "such as --config.init=DIR"
            raise ConfigError(
                f"give one of preset (random weights) and init (a checkpoint folder), {given}"
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype is 'float32' or 'bfloat16', not '{self.dtype}'")
        if self.optimizer.schedule == "cosine" and self.optimizer.warmup >= self.steps:
            raise ConfigError(
                f"optimizer.warmup {self.optimizer.warmup} leaves nothing of a run of {self.steps} "
                "steps: make it shorter"
            )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Builds the nested dataclasses; raises ConfigError naming an unknown or missing field."""
        return _build(cls, fields, "")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, default=list) + "\n"


def _build(cls, fields: Mapping[str, Any], path: str):
    known = {f.name: f for f in dataclasses.fields(cls)}
    for name in fields:
        if name not in known:
            raise ConfigError(
                f"no config field '{path}{name}'; there are: {', '.join(sorted(known))}"
            )
    built = {}
    for name, value in fields.items():
        if dataclasses.is_dataclass(known[name].type):
            value = _build(known[name].type, value, f"{path}{name}.")
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    required = [
        f.name
        for f in known.values()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [f"{path}{name}" for name in required if name not in built]
    if missing:
        raise ConfigError(f"config field missing: {', '.join(missing)}")
    try:
        return cls(**built)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config {path.rstrip('.') or 'run'}: {error}") from None


def differences(old: str, new: str) -> list[str]:
    """Fields (dotted) in which two to_json() texts differ, as "name: old -> new".

    The mesh is not looked at: a run may go on on another one. A field that is younger than the old
    text counts as at its default, which is what was done before there was the field.
    """
    with contextlib.suppress(ConfigError):
        old = RunConfig.from_dict(json.loads(old)).to_json()
    flat_old, flat_new = _flatten(json.loads(old)), _flatten(json.loads(new))
    return [
        f"{name}: {flat_old.get(name)} -> {flat_new.get(name)}"
        for name in sorted({*flat_old, *flat_new})
        if flat_old.get(name) != flat_new.get(name) and not name.startswith("mesh.")
    ]


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    flat = {}
    for name, value in tree.items():
        flat.update(_flatten(value, f"{prefix}{name}."))
    return flat
