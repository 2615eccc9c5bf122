"""The config of a training run: everything that its result depends on, as frozen dataclasses.

A config file (configs/*.py) gives only what its run chooses. All defaults are in the dataclasses.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.settings import SettingsError, build
from data.tasks.registry import is_setting_of_another, make_task, task_class
from data.tasks.task import Task
from diffusiongemma.sharding import MeshConfig
from files.fields import Seed, shown, typed
from files.json_file import read_json_object
from files.json_text import read_json
from sample.step import SamplerConfig
from train.loss import LossConfig
from train.optimizer import OptimizerConfig


class ConfigError(SettingsError):
    """A field of a config is unknown, missing, of another type or out of range; one line."""


# Workdirs from before there were tasks have a field data.kind: its value -> the task's name.
TASK_OF_KIND = {
    "tasks": "base_mixture",
    "sudoku": "sudoku",
    "csv": "sudoku",
    "needle": "needle",
    "chat": "conversations",
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The task that a run learns, and how long its prompts may be.

    In a config file the settings of the task stand beside these fields:
    `data = {"task": "sudoku", "prompt_length": 104, "clues": "38-50"}`.

    Attributes:
      name: the task's name (data/tasks/registry.py). A config file calls this field "task".
      prompt_length: P, the room for a prompt, in tokens.
      task: the task with its settings.
    """

    name: str
    prompt_length: int
    task: Task

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "DataConfig":
        """Builds a DataConfig from the fields of a config file.

        Settings that only other tasks have are left out, so that a command line can name another
        task than the config file does. `unused` lists them.

        Raises:
          ConfigError: a field is unknown, missing, of another type or out of range.
        """
        missing = [f"data.{name}" for name in ("task", "prompt_length") if name not in fields]
        if missing:
            raise ConfigError(f"config field missing: {', '.join(missing)}")
        name, length = fields["task"], fields["prompt_length"]
        try:
            length = typed(int, length, "data.prompt_length")
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if length < 1:
            raise ConfigError(f"data.prompt_length must be at least 1, not {length}")
        unused = cls.unused(fields)
        settings = {k: v for k, v in fields.items() if k not in ("task", "prompt_length", *unused)}
        try:
            return cls(name, length, make_task(name, settings, "data."))
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @staticmethod
    def unused(fields: Mapping[str, Any]) -> list[str]:
        """The names among these fields that are settings of other tasks only.

        Raises:
          ConfigError: there is no such task as fields["task"].
        """
        try:
            own = {field.name for field in dataclasses.fields(task_class(fields["task"]))}
        except ValueError as error:
            raise ConfigError(f"data.task: {error}") from None
        others = set(fields) - own - {"task", "prompt_length"}
        return sorted(k for k in others if is_setting_of_another(k, fields["task"]))

    def to_fields(self) -> dict[str, Any]:
        """The fields that from_fields takes, with all settings of the task."""
        settings = dataclasses.asdict(self.task)
        return {"task": self.name, "prompt_length": self.prompt_length, **settings}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """LoRA factors, and the linear maps that get them (diffusiongemma/lora.py).

    Attributes:
      rank: r, the rank of the factors. With 0 there are no factors, and all weights are trained.
      alpha: scale of the factors, before it is divided by the rank.
      pattern: regular expression that is searched in the paths of linear maps, such as
        "layers.3.attention.q". Matching maps get factors.
    """

    rank: int = 0
    alpha: float = 16.0
    pattern: str = ".*"

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank must be 0 or more, not {self.rank}")
        try:
            re.compile(self.pattern)
        except re.error as error:
            pattern = shown(self.pattern)
            raise ConfigError(f"lora.pattern {pattern} is no regular expression: {error}") from None


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """Evaluation while training (train/validation.py).

    Attributes:
      every: number of steps between evaluations; 0 for no evaluation.
      num: number of held-out items to evaluate; fewer if the task has fewer.
      batch_size: number of items that are answered together.

    Raises:
      ConfigError: a field is out of range.
    """

    every: int = 0
    num: int = 64
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"eval.every must be 0 or more, not {self.every}")
        for name in ("num", "batch_size"):
            if self.every and getattr(self, name) < 1:
                raise ConfigError(f"eval.{name} must be at least 1, not {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class ImagesConfig:
    """The images of a run's rows, and what becomes of the vision tower.

    Attributes:
      per_row: n, the number of images that a row has room for. With 0 the rows have no images, and
        the vision tower stays as it is.
      soft_tokens: the largest number of soft tokens of an image.
      freeze: whether the tower stays as it is while all other weights are trained. Then checkpoints
        of the run do not hold it.
      tower: fields of a VisionConfig. A model that has no tower gets one of this shape, with random
        weights, and one that has it keeps it. The ids of its tokens are the tokenizer's, if they
        are not given.

    Raises:
      ConfigError: a field is out of range, or the fields do not fit together.
    """

    per_row: int = 0
    soft_tokens: int = 280
    freeze: bool = False
    tower: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.per_row < 0:
            raise ConfigError(f"images.per_row must be 0 or more, not {self.per_row}")
        if self.soft_tokens < 1:
            raise ConfigError(f"images.soft_tokens must be at least 1, not {self.soft_tokens}")
        if self.tower and (self.freeze or not self.per_row):
            raise ConfigError(
                "images.tower makes a new vision tower, which must be trained: give images.per_row "
                "and no images.freeze"
            )

    @property
    def trained(self) -> bool:
        """Whether the weights of the vision tower are trained, where all weights are."""
        return bool(self.per_row) and not self.freeze


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
      seed: random seed of weights, noise and the order of the data.
      steps: number of optimizer steps.
      batch_size: B, rows of a step.
      data: the task, and the room for its prompts.
      loss: what a training example consists of, and how its losses are weighted.
      optimizer: the optimizer and its learning rate.
      preset: name of the ModelConfig of a model that starts from random weights.
      overrides: fields of that ModelConfig to change, name -> value.
      init: a checkpoint folder to start from; then preset and overrides are not used.
      dtype: dtype of the weights, "float32" or "bfloat16".
      lora: LoRA factors, if they are trained instead of the weights.
      images: the images of the rows, and what becomes of the vision tower.
      eval: evaluation while training.
      sampler: settings of the sampler for evaluation. They are saved beside the result.
      mesh: how the devices are divided. A stopped run may go on on another mesh.
      accumulate: number of parts of a batch. Gradients of the parts are computed one after another
        and averaged.
      remat: whether the backward pass computes activations anew instead of keeping them. This saves
        memory and costs time.
      ema: decay rate of a running mean of the trained weights. The mean is evaluated and saved as
        the result. 0 for no mean.
      workers: number of processes that make batches ahead of time; 0 for none. A fast GPU needs
        some, and a CPU needs none. The number changes no result (data/pipeline.py).
      log_every: number of steps between lines of the log.
      checkpoint_every: number of steps between checkpoints.
      keep: how many of the latest checkpoints stay.

    Raises:
      ConfigError: fields are out of range or do not fit together.
    """

    seed: Seed
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
    images: ImagesConfig = dataclasses.field(default_factory=ImagesConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    accumulate: int = 1
    remat: bool = False
    ema: float = 0.0
    workers: int = 0
    log_every: int = 20
    checkpoint_every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
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
        if self.workers < 0:
            raise ConfigError(f"workers must be 0 or more, not {self.workers}")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, not {self.ema}")
        if bool(self.preset) == bool(self.init):
            given = "not both" if self.init else "such as --config.init=DIR"
            raise ConfigError(
                f"give one of preset (random weights) and init (a checkpoint folder), {given}"
            )
        if self.loss.spelling and (self.images.per_row != 1 or not self.images.trained):
            raise ConfigError(
                "loss.spelling trains the vision tower with one image a row: give "
                "images.per_row=1 and no images.freeze"
            )
        if self.images.tower and self.lora.rank:
            raise ConfigError("images.tower: a new vision tower is not trained by LoRA factors")
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype must be 'float32' or 'bfloat16', not '{self.dtype}'")
        if self.optimizer.schedule == "cosine" and self.optimizer.warmup >= self.steps:
            raise ConfigError(
                f"optimizer.warmup {self.optimizer.warmup} leaves nothing of a run of {self.steps} "
                "steps: make it shorter"
            )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunConfig":
        """Builds a RunConfig from the fields of a config file or of a workdir's config.json.

        The fields of a workdir from before there were tasks are understood too.

        Raises:
          ConfigError: a field is unknown, missing, of another type or out of range.
        """
        fields = dict(fields)
        if isinstance(data := fields.get("data"), Mapping):
            fields["data"] = DataConfig.from_fields(_with_task(data))
        try:
            return build(cls, fields)
        except ConfigError:
            raise
        except SettingsError as error:
            raise ConfigError(str(error)) from None

    def to_fields(self) -> dict[str, Any]:
        """The fields that from_dict takes, all of them."""
        return dataclasses.asdict(self) | {"data": self.data.to_fields()}

    def to_json(self) -> str:
        """All fields as a JSON text, as a workdir's config.json has them."""
        return json.dumps(self.to_fields(), indent=2, sort_keys=True, default=list) + "\n"


def _with_task(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of config.data, with those of a run from before tasks under today's names.

    Raises:
      ConfigError: data.kind has an unknown value.
    """
    if "kind" not in data:
        return data
    kind, clues = data["kind"], data.get("clues", (40, 50))
    if kind not in TASK_OF_KIND:
        known = ", ".join(TASK_OF_KIND)
        raise ConfigError(f"data.kind {kind!r} is none of {known}: give data.task instead")
    settings = {
        "tasks": {},
        "sudoku": {"box": data.get("box", 3), "clues": "-".join(map(str, clues))},
        "csv": {"box": data.get("box", 3), "path": data.get("path", "")},
        "needle": {
            "longest": data["prompt_length"],
            **{name: data[name] for name in ("shortest", "dense") if name in data},
        },
        "chat": {"path": data.get("path", "")},
    }
    return {"task": TASK_OF_KIND[kind], "prompt_length": data["prompt_length"], **settings[kind]}


def read_data(workdir: Path) -> DataConfig | None:
    """What a run learns, from the config.json in its workdir; None if the folder is no workdir.

    Raises:
      ConfigError: the run's task is not known here.
    """
    try:
        fields = read_json_object(workdir / "config.json")
    except (OSError, ValueError):
        return None
    if not isinstance(fields.get("data"), dict):
        return None
    return DataConfig.from_fields(_with_task(fields["data"]))


def differences(old: str, new: str) -> list[str]:
    """The fields in which two texts of to_json() differ.

    The mesh and the number of workers are not compared, because a run may go on with others. A
    field that the old text lacks, because it was added later, counts as at its default: the default
    is what a run did before the field existed.

    Returns:
      a line for each field: "name: old -> new", such as "optimizer.peak_lr: 0.002 -> 0.001".

    Raises:
      ValueError: the old text is not JSON.
    """
    with contextlib.suppress(ConfigError):
        old = RunConfig.from_dict(read_json(old)).to_json()
    flat_old, flat_new = _flatten(read_json(old)), _flatten(read_json(new))
    return [
        f"{name}: {flat_old.get(name)} -> {flat_new.get(name)}"
        for name in sorted({*flat_old, *flat_new})
        if flat_old.get(name) != flat_new.get(name)
        and not name.startswith("mesh.")
        and name != "workers"
    ]


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by their dotted names."""
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    flat = {}
    for name, value in tree.items():
        flat.update(_flatten(value, f"{prefix}{name}."))
    return flat
