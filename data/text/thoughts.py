"""Thoughts that stand at the beginning of a message's text.

Many files of conversations keep the model's thoughts in the text of its answer, in the words of
another model (`<think>...</think>`) or in those of Gemma (`<|channel>thought...<channel|>`). Only a
block at the very beginning counts, and only if it is closed. An answer may mention such words
elsewhere, for example in a code block, and a block without an end may be such a mention too. Both
stay text.
"""

import re
from typing import Any

_THINK = re.compile(r"\s*<think>(.*?)</think>\n*", re.DOTALL)
_CHANNEL = re.compile(r"\s*<\|channel>thought\n(.*?)<channel\|>", re.DOTALL)


def split_think(text: str) -> tuple[str, str]:
    """Splits the text of an answer at its `<think>` block.

    Returns:
      (thought, answer): the thought without white space around it, "" if there is none; and the
      rest of the text without the line breaks that follow the block.
    """
    found = _THINK.match(text)
    return (found[1].strip(), text[found.end() :]) if found else ("", text)


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Moves the thought at the beginning of an assistant's content to where templates look for it.

    The thought goes to "reasoning" and to "reasoning_content", after the text that is there
    already. All other messages are returned as they are.
    """
    content = message.get("content")
    if message.get("role") not in ("assistant", "model") or not isinstance(content, str):
        return message
    found = _THINK.match(content) or _CHANNEL.match(content)
    given = message.get("reasoning") or message.get("reasoning_content")
    if not found or not isinstance(given, str | None):
        return message
    rest = message | {"content": content[found.end() :]}
    texts = [text for text in (given, found[1].strip()) if text]
    thoughts = "\n".join(dict.fromkeys(texts))
    return rest | ({"reasoning": thoughts, "reasoning_content": thoughts} if thoughts else {})
