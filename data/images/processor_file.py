"""Writes how large a model wants its images into its folder, as transformers does."""

import json
from pathlib import Path

from data.images.patches import PATCH_SIZE, POOL_SIZE
from data.text.json_text import read_json
from data.text.text_file import read_text

FILE = "processor_config.json"


def save_image_budget(
    folder: Path, soft_tokens: int, patch_size: int = PATCH_SIZE, pool_size: int = POOL_SIZE
) -> None:
    """Writes the budget that budgets.folder_budgets reads. What else the file says stays.

    Args:
      folder: gets the file.
      soft_tokens: the largest number of soft tokens of an image, and of a frame of a video.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of the square that becomes one soft token.

    Raises:
      ValueError: there is such a file, and it is not JSON.
    """
    file = folder / FILE
    content = read_json(read_text(file)) if file.exists() else {}
    sizes = {
        "patch_size": patch_size,
        "pooling_kernel_size": pool_size,
        "max_soft_tokens": soft_tokens,
    }
    for part in ("image_processor", "video_processor"):
        content[part] = content.get(part, {}) | sizes
    file.write_text(json.dumps(content, indent=2) + "\n")
