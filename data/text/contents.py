"""Contents of messages that are given as lists of parts: texts, images and videos.

A list of texts becomes one text. A list with images or videos stays a list, of {"type": "text",
"text": TEXT}, {"type": "image", "image": SOURCE} and {"type": "video", "video": SOURCE}. A source
is a path or a data URL; that of an image may be a Pillow image too. A template gets a part without
its source, and writes a placeholder for it (data/images/prompt.py).
"""

from typing import Any

from PIL import Image

Source = str | Image.Image

# OpenAI's newer interface calls texts by the side that they come from.
TEXT_PARTS = ("text", "input_text", "output_text")
# The types of other parts -> what the part is.
MEDIA_PARTS = {
    **dict.fromkeys(("image", "input_image", "image_url"), "image"),
    **dict.fromkeys(("video", "input_video", "video_url"), "video"),
    **dict.fromkeys(("audio", "input_audio", "audio_url"), "audio"),
}
PLACEHOLDERS = {"image": "<|image|>", "video": "<|video|>"}  # what templates write
# Where a part may have its source.
_SOURCES = (
    *("image", "image_url", "video", "video_url", "path", "url"),
    *("base64", "data", "source"),
)


def joined(parts: list[Any], role: str) -> str | list[dict[str, Source]]:
    """The content that is given as a list of parts.

    Texts are joined as the released template joins them: it trims each part, and puts a space
    between the parts of a system message and nothing between those of other messages. It does not
    trim a tool's parts. A single part is the same as its text.

    Args:
      parts: texts, or dicts with "type" and "text" or a source.
      role: the role of the message, one of messages.ROLES.

    Returns:
      the text; a list if there are images or videos among the parts.

    Raises:
      ValueError: a part is neither a text nor an image or a video of the user.
    """
    if any(map(is_media, parts)):
        return [
            media_part(part, role) if is_media(part) else {"type": "text", "text": _text(part)}
            for part in parts
        ]
    texts = list(map(_text, parts))
    if role == "tool" or len(texts) == 1:
        return "".join(texts)
    return (" " if role == "system" else "").join(text.strip() for text in texts)


def _text(part: Any) -> str:
    if isinstance(part, dict):
        kind = part.get("type", "text")
        if kind not in TEXT_PARTS:
            raise ValueError(
                f"a part of type {kind} is not read: give texts, images, calls as tool_calls, and "
                "results as messages of the role tool"
            )
        part = part.get("text")
    if not isinstance(part, str):
        raise ValueError(f"a part of the content must be text, got {type(part).__name__}")
    return part


def is_media(part: Any) -> bool:
    """Whether a part is an image, a video or a sound."""
    return isinstance(part, dict) and part.get("type") in MEDIA_PARTS


def media_part(part: dict[str, Any], role: str = "user") -> dict[str, Source]:
    """An image or a video as {"type": "image", "image": SOURCE} or with "video".

    Args:
      part: as OpenAI, Anthropic and Hugging Face write it.
      role: the role of its message.

    Raises:
      ValueError: it is a sound, the message is not the user's, or it has no source, or several.
    """
    name = f"a part of type {part['type']}"
    kind = MEDIA_PARTS[part["type"]]
    if kind == "audio":
        raise ValueError(f"{name}: this model does not hear")
    if role != "user":
        raise ValueError(f"{name}: only messages of the user have images and videos")
    given = {field: part[field] for field in _SOURCES if part.get(field) is not None}
    if len(given) > 1:
        raise ValueError(f"{name}: both {' and '.join(given)}: keep one")
    field, source = next(iter(given.items()), ("", None))
    within = source if isinstance(source, dict) else {}
    if any(each.get("detail") not in (None, "auto") for each in (part, within)):
        raise ValueError(f"{name}: detail is not taken: leave it out")
    if within.get("type") == "base64":
        source = f"data:{within.get('media_type') or ''};base64,{within.get('data')}"
    elif within:
        source = within.get("url")
    elif field in ("base64", "data") and isinstance(source, str):
        source = f"data:;base64,{source}"
    if kind == "image" and isinstance(source, Image.Image):
        return {"type": kind, kind: source}
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f'{name}: expected its path or data URL, as in "{kind}": "FILE"')
    return {"type": kind, kind: source}


def sources(messages: list[dict[str, Any]]) -> list[tuple[str, Source]]:
    """(kind, source) of all images and videos, in the order of a prompt.

    Args:
      messages: what `messages.checked` returns.
    """
    return [
        (part["type"], part[part["type"]])
        for message in messages
        for part in _parts(message)
        if is_media(part)
    ]


def with_sources(messages: list[dict[str, Any]], new: list[str] | None) -> list[dict[str, Any]]:
    """The messages with other sources, in the order of `sources`; without any if `new` is None."""
    left = iter(new or ())

    def changed(part: dict[str, Source]) -> dict[str, Source]:
        if not is_media(part):
            return part
        kind = part["type"]
        return {"type": kind} if new is None else {"type": kind, kind: next(left)}

    return [
        message | {"content": list(map(changed, parts))} if (parts := _parts(message)) else message
        for message in messages
    ]


def text_of(message: dict[str, Any]) -> str:
    """The text of a message's content, without its images and videos; "" if there is none."""
    parts = _parts(message)
    if not parts:
        return message.get("content") or ""
    return "".join(part["text"].strip() for part in parts if not is_media(part))


def _parts(message: dict[str, Any]) -> list[dict[str, Source]]:
    content = message.get("content")
    return content if isinstance(content, list) else []
