"""What a bad input is: a checkpoint's folder that is spoilt, and a command that must refuse it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class BadInput:
    """One bad input.

    Attributes:
      name: a name of its own.
      prepare: spoils a folder that holds a tiny checkpoint, or puts files into it.
      command: the module that is run and its flags. "{folder}" stands for the folder.
      word: the error has this text in it, as a regular expression.
    """

    name: str
    prepare: Callable[[Path], None]
    command: tuple[str, ...]
    word: str

    def argv(self, folder: Path) -> list[str]:
        """The command line, beginning with the module's name."""
        return [part.replace("{folder}", str(folder)) for part in self.command]


def tiny_checkpoint(folder: Path, layers: int = 1) -> None:
    """Writes the checkpoint that bad inputs are made of: 1,024 tokens, one layer, 12 tokens wide.

    Its config.json, its weights and its tokenizer.json are as good as those of a large one.
    """
    shape = ModelConfig.preset(
        "tiny",
        vocab_size=1024,
        layer_types=("full",) * layers,
        max_length=200,
        stop_ids=(1, 106, 50),
    )
    save_checkpoint(DiffusionGemma(shape, rngs=nnx.Rngs(0)), folder)
    Tokenizer.load().save(folder)


def nothing(folder: Path) -> None:
    """Leaves the folder as it is: the command line itself is bad."""


def written(name: str, text: str | bytes) -> Callable[[Path], None]:
    """Writes a file into the folder."""

    def prepare(folder: Path) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    return prepare


def changed(name: str, *path: str, to: Any) -> Callable[[Path], None]:
    """Gives a field of a JSON file in the folder another value; the path is its keys."""

    def prepare(folder: Path) -> None:
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        part = content
        for key in path[:-1]:
            part = part.setdefault(key, {})
        part[path[-1]] = to
        file.write_text(json.dumps(content))

    return prepare


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Replaces a text in a file of the folder, once."""

    def prepare(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text, f"{name} has no {old}"
        (folder / name).write_text(text.replace(old, new, 1))

    return prepare
