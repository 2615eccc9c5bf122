"""The budgets of soft tokens that a checkpoint's folder sets, in the files of transformers."""

import json
from collections.abc import Mapping
from pathlib import Path

from data.images.patches import FRAME_BUDGET, USUAL_BUDGET
from files.json_file import read_json_object
from files.whole_file import write_file

# The file, and the object in it; None for the whole. The first that has a budget counts.
_FILE, _IMAGES, _VIDEOS = "processor_config.json", "image_processor", "video_processor"
_IMAGE = ((_FILE, _IMAGES), ("preprocessor_config.json", None))
_VIDEO = ((_FILE, _VIDEOS), ("video_preprocessor_config.json", None))
_FIELD = "max_soft_tokens"


def folder_budgets(files: Mapping[str, Path]) -> tuple[int, int]:
    """The largest numbers of soft tokens of an image, and of a frame of a video.

    Args:
      files: name -> file of the small files of a checkpoint's folder.

    Raises:
      ValueError: a file is no JSON object, or a budget is no positive number.
    """
    return _budget(files, _IMAGE, USUAL_BUDGET), _budget(files, _VIDEO, FRAME_BUDGET)


def save_image_budget(folder: Path, soft_tokens: int, patch_size: int, pool_size: int) -> None:
    """Writes the budget that folder_budgets reads. What else the file says stays.

    Args:
      folder: gets the file.
      soft_tokens: the largest number of soft tokens of an image, and of a frame of a video.
      patch_size: pixels along a side of a patch.
      pool_size: patches along a side of the square that becomes one soft token.

    Raises:
      ValueError: there is such a file, and it is no JSON object.
    """
    file = folder / _FILE
    content = read_json_object(file) if file.exists() else {}
    sizes = {"patch_size": patch_size, "pooling_kernel_size": pool_size, _FIELD: soft_tokens}
    for part in (_IMAGES, _VIDEOS):
        content[part] = content.get(part, {}) | sizes
    write_file(file, (json.dumps(content, indent=2) + "\n").encode())


def _budget(
    files: Mapping[str, Path], places: tuple[tuple[str, str | None], ...], usual: int
) -> int:
    for name, inside in places:
        if name not in files:
            continue
        found = read_json_object(files[name])
        found = found.get(inside) if inside else found
        value = found.get(_FIELD) if isinstance(found, dict) else None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{files[name]}: {_FIELD} must be a positive number, not {value!r}")
        return value
    return usual
