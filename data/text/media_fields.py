"""Images and videos that stand in a field of a record, beside its messages.

The record says in one of three ways where in the messages they belong: by parts without a source,
{"type": "image"}, as trl has them; by the word <image> in its texts, as LLaVA and LLaMA-Factory
have it; or not at all, and then they stand before the text of the user's first message.
"""

import re
from typing import Any

from data.text.contents import MEDIA_PARTS, is_media

# Field of a record -> what its values are.
FIELDS = {"image": "image", "images": "image", "video": "video", "videos": "video"}
UNHEARD = ("audio", "audios")
_WORD = re.compile("(<image>|<video>)")


def placed(given: dict[str, Any], messages: Any) -> Any:
    """The messages of a record with what the fields FIELDS hold.

    Args:
      given: the record.
      messages: its messages, as they are in the record.

    Raises:
      ValueError: a field has something else than sources, or more or fewer than there are places.
    """
    for name in UNHEARD:
        if given.get(name):
            raise ValueError(f"{name}: this model does not hear")
    for kind in ("image", "video"):
        fields = [name for name, what in FIELDS.items() if what == kind and given.get(name)]
        if len(fields) > 1:
            raise ValueError(f"both {' and '.join(fields)}: keep one")
        if fields and isinstance(messages, list):
            messages = _filled(messages, kind, _sources(fields[0], given[fields[0]]), fields[0])
    return messages


def _sources(name: str, value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    # What Hugging Face's datasets write for a picture.
    found = [each.get("path") if isinstance(each, dict) else each for each in found]
    if not all(isinstance(source, str) and source.strip() for source in found):
        raise ValueError(f"{name}: expected paths or data URLs")
    return found


def _filled(messages: list[Any], kind: str, sources: list[str], name: str) -> list[Any]:
    left = iter(sources)
    empty = sum(_is_empty(part, kind) for message in messages for part in _parts(message))
    word = f"<{kind}>"
    words = sum(_text(message).count(word) for message in messages)
    places = empty or words
    if places and places != len(sources):
        raise ValueError(f"{name}: there are {len(sources)} of them, and {places} places for them")

    def filled(message: Any) -> Any:
        if empty:
            parts = [
                {"type": kind, kind: next(left)} if _is_empty(part, kind) else part
                for part in _parts(message)
            ]
        elif words:
            parts = [
                {"type": kind, kind: next(left)} if text == word else text
                for text in _WORD.split(_text(message))
                if text.strip()
            ]
            if not any(map(is_media, parts)):
                return message
        else:
            content = message["content"]
            parts = content if isinstance(content, list) else [content]
            parts = [*({"type": kind, kind: source} for source in left), *parts]
        return message | {"content": parts} if parts else message

    if places:
        return list(map(filled, messages))
    for i, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") in ("user", "human"):
            return [*messages[:i], filled(message), *messages[i + 1 :]]
    raise ValueError(f"{name}: there is no message of the user to show them with")


def _parts(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else []


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def _is_empty(part: Any, kind: str) -> bool:
    """Whether a part is an image or a video without a source."""
    return isinstance(part, dict) and MEDIA_PARTS.get(part.get("type")) == kind and len(part) == 1
