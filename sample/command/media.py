"""The images and videos that the command's flags and the commands of a chat name."""

import dataclasses
from pathlib import Path

from absl import flags

from data.images.budgets import folder_budgets
from data.images.sources import PictureReader
from data.text.messages import Message
from sample.checkpoint import Checkpoint
from sample.command.prompt_rows import PromptRow

# Strangers may not make a server decode larger images. Their pixels take 0.3 GB.
MOST_SERVED_PIXELS = 2**25


def part_of(kind: str, path: str) -> dict[str, str]:
    """A part of a content, "image" or "video", for a file."""
    return {"type": kind, kind: path}


def content_of(parts: list[dict[str, str]], text: str) -> str | list[dict[str, str]]:
    """The content of a message: a text, after images and videos if there are any."""
    return [*parts, {"type": "text", "text": text}] if parts else text


def media_of(values: flags.FlagValues) -> list[dict[str, str]]:
    """The parts for --image and --video."""
    return [part_of(kind, path) for kind in ("image", "video") for path in values[kind].value]


def shown_rows(rows: list[PromptRow] | None, parts: list[dict[str, str]]) -> list[PromptRow] | None:
    """The prompts with images and videos; rows of None are a chat, which takes them itself.

    Raises:
      ValueError: there is more than one prompt, or it has images already.
    """
    if not parts or rows is None:
        return rows
    asked: list[Message] = rows[0].messages
    if len(rows) > 1 or rows[0].number is not None or not isinstance(asked[-1]["content"], str):
        raise ValueError(
            "--image and --video are for one prompt: a record that is piped in has them as parts, "
            'such as {"type": "image", "image": "FILE"}'
        )
    last = asked[-1] | {"content": content_of(parts, asked[-1]["content"])}
    return [rows[0]._replace(messages=[*asked[:-1], last])]


def picture_reader(values: flags.FlagValues, checkpoint: Checkpoint) -> PictureReader:
    """Reads pictures with the settings of the flags and of the checkpoint's folder.

    Raises:
      ValueError: the folder's settings cannot be used.
    """
    image, frame = folder_budgets(checkpoint.companions)
    reader = PictureReader(int(values.image_tokens or image), frame)
    if values.serve is None:
        return reader
    folder = "" if values.image_folder is None else str(Path(values.image_folder).resolve())
    return dataclasses.replace(reader, most_pixels=MOST_SERVED_PIXELS, only_in=folder)
