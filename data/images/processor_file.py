"""How large a checkpoint wants its images: processor_config.json, as transformers writes it."""

import json
from pathlib import Path
from typing import Any

from data.images.patches import PATCH_SIZE, POOL_SIZE
from data.text.json_text import read_json, why_not_json
from data.text.text_file import read_text

FILE = "processor_config.json"
_PART, _BUDGET = "image_processor", "max_soft_tokens"


def image_budget(file: Path) -> int | None:
    """The largest number of soft tokens of an image.

    Args:
      file: a processor_config.json.

    Returns:
      the number; None if the file is missing or does not say it.

    Raises:
      ValueError: the file cannot be read, or the number is none.
    """
    budget = _content(file).get(_PART, {}).get(_BUDGET)
    if budget is not None and (type(budget) is not int or budget < 1):
        raise ValueError(f"{file}: {_PART}.{_BUDGET} must be a number of tokens, not {budget!r}")
    return budget


def save_image_budget(
    folder: Path, soft_tokens: int, patch_size: int = PATCH_SIZE, pool_size: int = POOL_SIZE
) -> None:
    """Writes how large images are. What else a file in the folder says stays as it is.

    Args:
      folder: gets the file.
      soft_tokens: the largest number of soft tokens of an image.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of the square that becomes one soft token.
    """
    content = _content(folder / FILE)
    sizes = {"patch_size": patch_size, "pooling_kernel_size": pool_size, _BUDGET: soft_tokens}
    content[_PART] = content.get(_PART, {}) | sizes
    (folder / FILE).write_text(json.dumps(content, indent=2) + "\n")


def _content(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    text = read_text(file)
    try:
        content = read_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: {why_not_json(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get(_PART, {}), dict):
        raise ValueError(f"{file}: expected an object with the fields of {_PART}")
    return content
