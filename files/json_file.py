"""Reads a JSON file of anyone: a small regular file in UTF-8. Errors name the file in one line."""

import json
from pathlib import Path
from typing import Any

from files.json_text import read_json, why_not_json
from files.text_file import read_text

MOST_BYTES = 8_000_000  # of configs and their like; the largest released one has some KB
INDEX_BYTES = 100_000_000  # of lists of tensors, as many as safetensors allows for a header


def read_json_file(file: Path, most: int = MOST_BYTES) -> Any:
    """The JSON value in a file.

    Args:
      file: the file.
      most: the largest number of bytes that it may have.

    Raises:
      ValueError: it is no regular file, is larger, is empty, is no UTF-8 text, is what a failed
        download left, or is not JSON in the sense of read_json.
      OSError: the file cannot be read.
    """
    text = read_text(file, most)
    if not text.strip():
        raise ValueError(f"{file}: is empty: download it again")
    try:
        return read_json(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{file}: not JSON: {why_not_json(error)} at {where}") from None
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {why_not_json(error)}") from None


def read_json_object(file: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises as read_json_file, and ValueError for any other value."""
    value = read_json_file(file, most)
    if not isinstance(value, dict):
        raise ValueError(f"{file}: not a JSON object")
    return value
