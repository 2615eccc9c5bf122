"""Answers of which some is given: what stays, what is to be written, and what may change.

A task that gives a part of its answers cuts each answer into parts. Each part is encoded by itself,
so that its tokens do not depend on its neighbours. The token that ends the turn and the eos fill
behind it are kept too. Of an answer without parts nothing is given, not even its length.
`sample.given.Given` is what the sampler gets (docs/MODEL.md, Kept tokens).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from data.text.marked_text import MarkedText
from data.text.tokenizer import Tokenizer

Kind = Literal["kept", "open", "start"]

NOTHING = -1  # the token of a position for which nothing is given


class Part(NamedTuple):
    """A part of an answer.

    Attributes:
      text: the part's text in the right answer.
      kind: "kept": the text stands on the canvas from the start and stays. "open": only the number
        of its tokens is given. "start": the part starts from another text, and may change.
      start: that other text, with as many tokens as `text`; only for the kind "start".
    """

    text: str
    kind: Kind
    start: str = ""


class GivenTokens(NamedTuple):
    """What is given of the n tokens of an answer, as in sample.given.Given.

    Attributes:
      tokens: n ids, NOTHING at open positions.
      keep: n bools, the positions that stay.
    """

    tokens: list[int]
    keep: list[bool]


def encode_parts(
    tokenizer: Tokenizer, answer: MarkedText, parts: Sequence[Part]
) -> tuple[list[int], GivenTokens]:
    """Encodes an answer part by part.

    Args:
      tokenizer: encodes the texts. A special token in a part is plain text.
      answer: the answer as the chat template writes it. What follows the parts is kept.
      parts: the parts of the answer, in order. If there are none, nothing is given.

    Returns:
      (ids, given): the tokens of the right answer, and what is given of them.

    Raises:
      ValueError: the template does not write the answer as the parts are, a kind is unknown, or the
        texts of a part have different numbers of tokens.
    """
    if not parts:
        ids = tokenizer.encode(answer)
        return ids, GivenTokens([NOTHING] * len(ids), [False] * len(ids))
    whole = "".join(part.text for part in parts)
    if not answer.text.startswith(whole):
        raise ValueError(
            f"the parts of an answer are {whole!r}, but the chat template writes {answer.text!r}"
        )
    ids, tokens, keep = [], [], []
    for part in parts:
        if part.kind not in get_args(Kind):
            raise ValueError(f"a part is {' or '.join(get_args(Kind))}, not {part.kind!r}")
        right = tokenizer.encode(MarkedText(part.text))
        shown = [NOTHING] * len(right) if part.kind == "open" else right
        if part.kind == "start":
            shown = tokenizer.encode(MarkedText(part.start))
            if len(shown) != len(right):
                raise ValueError(
                    f"a part starts from {part.start!r} with {len(shown)} tokens, but its text "
                    f"{part.text!r} has {len(right)}"
                )
        ids += right
        tokens += shown
        keep += [part.kind == "kept"] * len(right)
    end = tokenizer.encode(_behind(answer, len(whole)))
    keep += [True] * len(end)
    return ids + end, GivenTokens(tokens + end, keep)


def _behind(text: MarkedText, start: int) -> MarkedText:
    """The text from a character on, with its special tokens."""
    special = text.special
    if special is not None:
        special = tuple((a - start, b - start) for a, b in special if a >= start)
    return MarkedText(text.text[start:], special)
