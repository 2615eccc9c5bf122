"""A checkpoint's model with the tokenizer that belongs to it."""

from pathlib import Path

from data.text.tokenizer import DEFAULT_PATH, Tokenizer
from diffusiongemma import DiffusionGemma, load_checkpoint
from diffusiongemma.formats.detect import companion_folder


def locate(path: Path) -> Path:
    """The folder with the weights: `path`, or model/ in the workdir of a finished run."""
    in_run = path / "model"
    ready = any(in_run.glob("*.safetensors")) and not any(path.glob("*.safetensors"))
    return in_run if ready else path


def companions(folder: Path, base: str | None = None) -> Path:
    """The folder with the tokenizer and its like: of LoRA factors that have none, their base's."""
    return locate(companion_folder(folder, base))


def load(
    folder: Path,
    tokenizer: str | None = None,
    dtype: str | None = None,
    base: str | None = None,
) -> tuple[DiffusionGemma, Tokenizer]:
    """The model in a folder, and the tokenizer named, beside it, or our own.

    Args:
      folder: of a checkpoint; see `locate`.
      tokenizer: a tokenizer.json.
      dtype: of the parameters; None keeps each one's own.
      base: of LoRA factors; None: the folder that they name.

    Raises:
      ValueError, OSError: as load_checkpoint and Tokenizer.load; or the folder has no tokenizer
        and ours is for another vocabulary.
    """
    own = companions(folder, base) / "tokenizer.json"
    ours = tokenizer is None and not own.exists()
    loaded = Tokenizer.load(DEFAULT_PATH if ours else tokenizer or own)
    model = load_checkpoint(folder, dtype, base=base)
    if ours and loaded.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{folder}: no tokenizer.json for a vocabulary of {model.config.vocab_size}: "
            "give --tokenizer=FILE"
        )
    return model, loaded


def check_vocabulary(model: DiffusionGemma, tokenizer: Tokenizer) -> None:
    """Raises ValueError if the tokenizer has ids that the model has not."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model {model.config.vocab_size}: "
            "give the model's own --tokenizer"
        )
