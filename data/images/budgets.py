"""The budgets of soft tokens that a checkpoint's folder sets, in the files of transformers."""

import json
from collections.abc import Mapping
from pathlib import Path

from data.images.patches import FRAME_BUDGET, USUAL_BUDGET
from data.text.text_file import read_text

# The file, the object in it, and what it is about. The first that has a budget counts.
_IMAGE = (("processor_config.json", "image_processor"), ("preprocessor_config.json", None))
_VIDEO = (("processor_config.json", "video_processor"), ("video_preprocessor_config.json", None))
_FIELD = "max_soft_tokens"


def folder_budgets(files: Mapping[str, Path]) -> tuple[int, int]:
    """The largest numbers of soft tokens of an image, and of a frame of a video.

    Args:
      files: name -> file of the small files of a checkpoint's folder.

    Raises:
      ValueError: a file is not JSON, or a budget is no positive number.
    """
    return _budget(files, _IMAGE, USUAL_BUDGET), _budget(files, _VIDEO, FRAME_BUDGET)


def _budget(
    files: Mapping[str, Path], places: tuple[tuple[str, str | None], ...], usual: int
) -> int:
    for name, inside in places:
        if name not in files:
            continue
        try:
            found = json.loads(read_text(files[name]))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{files[name]}: not JSON: {error}") from None
        found = found.get(inside) if inside and isinstance(found, dict) else found
        value = found.get(_FIELD) if isinstance(found, dict) else None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{files[name]}: {_FIELD} must be a positive number, not {value!r}")
        return value
    return usual
