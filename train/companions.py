"""The text side of a run: tokenizer and chat template, those of the checkpoint it starts from."""

import shutil
from pathlib import Path

from data.text.chat_template import ChatTemplate
from data.text.tokenizer import DEFAULT_PATH, Tokenizer
from diffusiongemma import DiffusionGemma
from diffusiongemma.formats.load_save import COMPANIONS
from sample.checkpoint import locate
from sample.generation_config import save_sampler_defaults
from sample.step import SamplerConfig

TOKENIZER = "tokenizer.json"


def load_tokenizer(init: str) -> Tokenizer:
    """The tokenizer in a checkpoint's folder; our own if it has none, or there is no checkpoint.

    Raises ValueError if the folder is not there, or the file is no tokenizer.
    """
    if init and not Path(init).is_dir():
        raise ValueError(f"{init}: no such folder to start from")
    return Tokenizer.load(_companions(init).get(TOKENIZER, DEFAULT_PATH))


def load_template(init: str, tokenizer: Tokenizer) -> ChatTemplate:
    """The chat template in a checkpoint's folder, else the turn format.

    Raises ValueError as ChatTemplate.load.
    """
    return ChatTemplate.load(locate(Path(init)), tokenizer) if init else ChatTemplate(tokenizer)


def check_tokenizer(init: str, tokenizer: Tokenizer, model: DiffusionGemma) -> None:
    """Raises ValueError if the model lacks ids of the tokenizer, or ours is not what it was for."""
    ids, rows = tokenizer.vocab_size, model.config.vocab_size
    borrowed = bool(init) and TOKENIZER not in _companions(init)
    if ids > rows or (borrowed and ids != rows):
        what = f"put the model's {TOKENIZER} into {init}" if init else "set overrides.vocab_size"
        raise ValueError(f"a tokenizer of {ids} tokens for a model of {rows}: {what}")


def save_companions(init: str, tokenizer: Tokenizer, sampler: SamplerConfig, folder: Path) -> None:
    """Puts into `folder` what belongs to a checkpoint beside its weights, as far as `init` has it.

    The tokenizer it gets in any case, and what the run's sampler changes of the published settings.
    """
    found = _companions(init)
    for name, file in found.items():
        shutil.copyfile(file, folder / name)
    if TOKENIZER not in found:
        tokenizer.save(folder)
    save_sampler_defaults(sampler, folder)


def _companions(init: str) -> dict[str, Path]:
    files = {name: locate(Path(init)) / name for name in COMPANIONS} if init else {}
    return {name: file for name, file in files.items() if file.is_file()}
