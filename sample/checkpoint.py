"""A checkpoint as one object: its model, its tokenizer and all else that belongs to it."""

import functools
import os
from pathlib import Path
from typing import Any

from flax import nnx

from data.text.chat_template import ChatTemplate
from data.text.tokenizer import DEFAULT_PATH, Tokenizer
from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import adapter as adapters
from diffusiongemma.formats.adapter import Adapter
from diffusiongemma.formats.companions import companion_files, copy_companions
from diffusiongemma.formats.detect import companion_folder, open_checkpoint
from diffusiongemma.formats.load_save import load_opened
from diffusiongemma.formats.safetensors_file import safetensors_in
from diffusiongemma.formats.weights import Sharding, Stored
from diffusiongemma.transformer import DiffusionGemma
from sample import generation_config
from sample.step import SamplerConfig
from sample.stopping import check_stop_ids

TOKENIZER = "tokenizer.json"


class Checkpoint:
    """A folder with a model, or the settings of a model that is still to be made.

    Each part is read when it is first asked for, and only once. So settings and tokenizer can be
    checked before any weights are read.

    Attributes:
      folder: the folder with the weights; None without a checkpoint.
      home: the folder with the tokenizer and its like: that of the base, if `folder` holds only
        LoRA factors and no tokenizer; None without a checkpoint.
    """

    def __init__(
        self,
        folder: Path | None,
        home: Path | None,
        base: str | os.PathLike | None = None,
        tokenizer: str | os.PathLike | None = None,
        config: ModelConfig | str | os.PathLike | None = None,
    ):
        """See `open` and `fresh`, which call this."""
        self.folder, self.home = folder, home
        self._base, self._tokenizer_file, self._config = base, tokenizer, config

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        base: str | os.PathLike | None = None,
        tokenizer: str | os.PathLike | None = None,
        config: ModelConfig | str | os.PathLike | None = None,
    ) -> "Checkpoint":
        """Finds a checkpoint of any format.

        Args:
          path: its folder, or the workdir of a training run, which stands for its model/ once the
            run is finished, and for its latest checkpoint before.
          base: folder of the model that LoRA factors belong to; None: the folder that they name.
          tokenizer: a tokenizer.json or its folder; None: the one in `home`, else ours.
          config: as load_checkpoint's, for Google's layout without a config.json.

        Raises:
          CheckpointError: there is no such folder, or the base of LoRA factors is not there.
        """
        folder = locate(Path(path))
        return cls(folder, locate(companion_folder(folder, base)), base, tokenizer, config)

    @classmethod
    def fresh(cls, config: ModelConfig) -> "Checkpoint":
        """No checkpoint: a model of this config is to be made, with our tokenizer and turn format.

        Such a Checkpoint has no stored, adapter or fingerprint, and cannot be loaded.
        """
        return cls(None, None, config=config)

    @property
    def stored(self) -> Stored:
        """The whole model's tensors, of which only headers are read.

        Raises:
          CheckpointError: as load_checkpoint.
        """
        return self._opened[0]

    @property
    def adapter(self) -> Adapter | None:
        """The LoRA factors that belong to `stored`; None if the checkpoint has none."""
        return self._opened[1]

    @property
    def config(self) -> ModelConfig:
        """The config of the model that `load` gives."""
        if self.folder is None:
            return self._config
        return self.stored.config if self.adapter is None else self.adapter.weights.config

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was given, else the one in `home`, else ours.

        Raises:
          FileNotFoundError, ValueError: as Tokenizer.load.
        """
        file = Path(self._tokenizer_file or self.companions.get(TOKENIZER, DEFAULT_PATH))
        return Tokenizer.load(file)

    @functools.cached_property
    def template(self) -> ChatTemplate:
        """The chat template in `home`, else the turn format; raises ValueError if it is broken."""
        if self.home is None:
            return ChatTemplate(self.tokenizer)
        return ChatTemplate.load(self.home, self.tokenizer)

    @functools.cached_property
    def sampler_defaults(self) -> dict[str, Any]:
        """Fields of SamplerConfig that generation_config.json and sampler.json set.

        Raises:
          ValueError: the file is broken, or it names a stop token that the model does not have.
        """
        if self.home is None:
            return {}
        found = generation_config.sampler_defaults(self.home)
        if found.get("stop_ids") is None:  # then the weights need not be there
            return found
        try:
            check_stop_ids(found["stop_ids"], self.config.vocab_size)
        except ValueError as error:
            raise ValueError(f"{self.home / generation_config.FILE}: {error}") from None
        return found

    @functools.cached_property
    def companions(self) -> dict[str, Path]:
        """Name -> file of the small files beside the weights (formats/companions.py)."""
        return {} if self.home is None else companion_files(self.home)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the whole model's weights, without LoRA factors (formats/adapter.py)."""
        return adapters.fingerprint(self.stored)

    def check_tokenizer(self) -> None:
        """Checks that the tokenizer fits the model. `load` calls this before it reads weights.

        Raises:
          ValueError: the model lacks ids of the tokenizer; or the tokenizer is ours, because none
            lies beside the weights, and has another number of ids than the model.
        """
        ids, rows = self.tokenizer.vocab_size, self.config.vocab_size
        given = self._tokenizer_file is not None
        ours = self.folder is not None and not given and TOKENIZER not in self.companions
        if ids <= rows and not (ours and ids != rows):
            return
        if self.folder is None:
            advice = "set overrides.vocab_size"  # a training run's field
        elif given:
            advice = f"give the model's own {TOKENIZER}"
        else:
            advice = f"put the model's {TOKENIZER} into {self.home}"
        raise ValueError(f"a tokenizer of {ids} tokens for a model of {rows}: {advice}")

    def load(self, dtype: Any = None, sharding: Sharding | None = None) -> DiffusionGemma:
        """Reads the weights.

        Args:
          dtype, sharding: as load_checkpoint's.

        Raises:
          CheckpointError: as load_checkpoint.
          ValueError: the tokenizer does not fit, or there is no checkpoint.
        """
        if self.folder is None:
            raise ValueError("there is no checkpoint to load")
        self.check_tokenizer()
        return load_opened(self.stored, self.adapter, dtype, sharding)

    def save_companions(self, folder: Path, sampler: SamplerConfig) -> None:
        """Puts beside the weights of a new model what lies beside those of this one.

        README.md is left out, because it describes this model.

        Args:
          folder: gets the companions, always a tokenizer.json among them.
          sampler: the settings that the new model is to have.
        """
        if self.home is not None:
            copy_companions(self.home, folder, card=False)
        if self._tokenizer_file is not None or TOKENIZER not in self.companions:
            self.tokenizer.save(folder)
        generation_config.save_sampler_defaults(sampler, folder)

    @functools.cached_property
    def _opened(self) -> tuple[Stored, Adapter | None]:
        if self.folder is None:
            raise ValueError("there is no checkpoint to open")
        return open_checkpoint(self.folder, self._config, self._base)


def locate(path: Path) -> Path:
    """The folder with the weights: `path`, or model/ in the workdir of a finished run."""
    in_run = path / "model"
    ready = safetensors_in(in_run) and not safetensors_in(path)
    return in_run if ready else path


def check_vocabulary(model: nnx.Module, tokenizer: Tokenizer) -> None:
    """Raises ValueError if the tokenizer has ids that the model has not."""
    ids, rows = tokenizer.vocab_size, model.config.vocab_size
    if ids > rows:
        raise ValueError(
            f"a tokenizer of {ids} tokens for a model of {rows}: give the model's own {TOKENIZER}"
        )
