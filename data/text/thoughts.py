"""Thoughts that stand at the beginning of a message's text.

Many files of conversations keep the model's thoughts in the text of its answer, in the words of
another model (`<think>...</think>`, `<thinking>...</thinking>`) or in those of Gemma
(`<|channel>thought...<channel|>`). Only a block at the very beginning counts, or several directly
after each other, and only if it is closed. An answer may mention such words elsewhere, for example
in a code block, and a block without an end may be such a mention too. Both stay text.

Some models begin their thoughts in the prompt. So in a message, all before a `</think>` that ends
its line is a thought too, if no `<think>` stands before it.
"""

import re
from typing import Any

_THINK = re.compile(r"\s*<(?:think>(.*?)</think|thinking>(.*?)</thinking)>\n*", re.DOTALL)
_BEGUN = re.compile(r"((?:(?!<think>|```).)*?)</think>[ \t]*\r?\n\s*", re.DOTALL)
_FINAL = re.compile(r"\s*<\|channel>final\n(.*?)(?:<channel\|>)?\s*", re.DOTALL)
_CHANNEL = re.compile(r"\s*<\|channel>thought\n(.*?)<channel\|>", re.DOTALL)


def split_think(text: str) -> tuple[str, str]:
    """Splits the text of an answer at its `<think>` blocks.

    Returns:
      (thought, answer): the thoughts on lines of their own without white space around each, "" if
      there are none; and the rest of the text without the line breaks that follow the blocks.
    """
    thoughts, rest = _split(text, _THINK)
    return "\n".join(filter(None, thoughts)), rest


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Moves the thought at the beginning of an assistant's content to where templates look for it.

    The thought goes to "reasoning" and to "reasoning_content", after the text that is there
    already. A channel named "final" that is all the rest becomes its text. All other messages are
    returned as they are.
    """
    content = message.get("content")
    if message.get("role") not in ("assistant", "model") or not isinstance(content, str):
        return message
    thoughts, rest = _split(content, _THINK, _CHANNEL)
    if not thoughts and (begun := _BEGUN.match(content)):
        thoughts, rest = [begun[1].strip()], content[begun.end() :]
    if final := _FINAL.fullmatch(rest):
        rest = final[1]
    given = message.get("reasoning") or message.get("reasoning_content")
    if rest == content or not isinstance(given, str | None):
        return message
    message = message | {"content": rest}
    add_thoughts(message, thoughts)
    return message


def add_thoughts(message: dict[str, Any], thoughts: list[str]) -> None:
    """Adds thoughts to the "reasoning" of a message, each of them once.

    Raises:
      ValueError: the reasoning that the message has is not text.
    """
    given = message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(given, str | None):
        raise ValueError("the reasoning must be text")
    texts = [text for text in (given, *(thought.strip() for thought in thoughts)) if text]
    said = "\n".join(dict.fromkeys(texts))
    if said:
        message["reasoning"] = message["reasoning_content"] = said


def _split(text: str, *patterns: re.Pattern[str]) -> tuple[list[str], str]:
    """The thoughts at the beginning of a text, and the rest of the text."""
    thoughts = []
    while found := next(filter(None, (pattern.match(text) for pattern in patterns)), None):
        thoughts.append(next(filter(None, found.groups()), "").strip())
        text = text[found.end() :]
    return thoughts, text
