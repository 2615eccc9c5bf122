"""Texts with holes or spans as given tokens, and the choice of the lengths of holes.

Each piece of the text is encoded by itself, so the tokens on both sides of a hole are those that
the tokenizer gives for these texts. A stop token and the fill of the last canvas stand behind the
text and are kept too. In the answer, what stays is the text that was given, and not what its
tokens are decoded to.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data.text.holes import Hole, Pieces, Span, piece_text
from data.text.parts import NOTHING
from data.text.tokenizer import Tokenizer
from sample.generation import Generation
from sample.given import Given


class Outline(NamedTuple):
    """A text with holes or spans, as tokens.

    Attributes:
      pieces: the text.
      ids: the tokens of each piece; empty for a hole.
      end: the tokens behind the text: the one that stops it, and the one that fills its canvas.
      canvas_size: C.
      room: n, the number of tokens to generate: those of the canvases that the text and its stop
        token may need, within the limit.
    """

    pieces: Pieces
    ids: tuple[list[int], ...]
    end: tuple[int, int]
    canvas_size: int
    room: int

    def sizes(self, pick: Callable[[list[int]], int]) -> list[int]:
        """The number of tokens of each piece, where `pick` chooses the length of a hole."""
        both = zip(self.pieces, self.ids, strict=True)
        return [pick(p.lengths) if isinstance(p, Hole) else len(ids) for p, ids in both]

    def given(self, sizes: Sequence[int], filled: bool = True) -> Given:
        """What is given for the answer of one row: arrays [1, n].

        Args:
          sizes: the number of tokens of each piece.
          filled: whether the canvas is filled up behind the stop token.
        """
        tokens, keep = np.full((1, self.room), NOTHING, np.int32), np.zeros((1, self.room), bool)
        at = 0
        for piece, ids, size in zip(self.pieces, self.ids, sizes, strict=True):
            if not isinstance(piece, Hole):
                tokens[0, at : at + size] = ids
                keep[0, at : at + size] = not isinstance(piece, Span)
            at += size
        end = (at // self.canvas_size + 1) * self.canvas_size if filled else at + 1
        tokens[0, at:end], keep[0, at:end] = self.end[1], True
        tokens[0, at : at + 1] = self.end[0]
        return Given(tokens, keep)

    def written(self, sizes: Sequence[int]) -> np.ndarray:
        """[n] bool, the positions in holes and spans."""
        found = np.repeat([not isinstance(piece, str) for piece in self.pieces], sizes)
        return np.pad(found, (0, self.room - len(found)))

    def text(self, sizes: Sequence[int], tokens: np.ndarray, tokenizer: Tokenizer) -> str:
        """The text with what the model wrote. Special tokens are left out.

        Args:
          sizes: the number of tokens of each piece.
          tokens: [n] int32, the generated tokens.
          tokenizer: the model's.
        """
        text, at = "", 0
        for piece, ids, size in zip(self.pieces, self.ids, sizes, strict=True):
            found = tokens[at : at + size].tolist()
            at += size
            if isinstance(piece, str):
                text += piece
            elif isinstance(piece, Span) and found == ids:
                text += piece.text  # which may differ from what its tokens are decoded to
            else:
                text += tokenizer.plain_text(found)
        return text


class Choice(NamedTuple):
    """The sizes of a text's pieces, and what they cost.

    Attributes:
      sizes: the number of tokens of each piece.
      passes: [K] int64, forward passes that the choice took for each canvas, those that commit the
        canvas before it included.
      rounds: the number of steps that the choice took one after the other.
    """

    sizes: list[int]
    passes: np.ndarray
    rounds: int


class Plan(NamedTuple):
    """How the texts of a batch are generated.

    Attributes:
      given: [B, n], what is given.
      written: [B, n] bool, the positions in holes and spans.
      sizes: for each row, the number of tokens of each piece.
      passes: [B, K] int64, as in Choice.
      rounds: as in Choice, of all rows together.
    """

    given: Given
    written: np.ndarray
    sizes: list[list[int]]
    passes: np.ndarray
    rounds: int

    def counts(self, canvas_size: int) -> np.ndarray:
        """[B, K] int64, the number of positions in holes and spans of each canvas."""
        marks = np.pad(self.written, ((0, 0), (0, -self.written.shape[1] % canvas_size)))
        return marks.reshape(len(marks), -1, canvas_size).sum(axis=2)


def outline(
    pieces: Pieces,
    tokenizer: Tokenizer,
    stop_ids: Sequence[int],
    canvas_size: int,
    limit: int | None = None,
) -> Outline:
    """Encodes a text with holes or spans.

    Args:
      pieces: the text.
      tokenizer: the model's.
      stop_ids: tokens that end a generation.
      canvas_size: C.
      limit: the largest number of tokens to generate; None for no limit.

    Raises:
      ValueError: the text has a special token, or more tokens than the limit.
    """
    texts = list(map(piece_text, pieces))
    for text in texts:
        if special := tokenizer.special_tokens_in(text):
            raise ValueError(
                f"the text has {special[0]}, a special token: a text to fill in or edit has none"
            )
    # With stop tokens of the user's own, one of these must end the row.
    stop, fill = tokenizer.turn_end_id, tokenizer.eos_id
    if stop_ids:
        stop = stop if stop in stop_ids else stop_ids[0]
        fill = fill if fill in stop_ids else stop
    made = Outline(pieces, tuple(map(tokenizer.encode, texts)), (stop, fill), canvas_size, room=0)
    most = sum(made.sizes(max))
    if limit is not None and most > limit:
        raise ValueError(
            f"the text has {most} tokens with its holes, more than --max-new-tokens={limit}: "
            "without this limit, there are as many canvases as the text needs"
        )
    room = (most // canvas_size + 1) * canvas_size
    return made._replace(room=room if limit is None else min(room, limit))


def choose_sizes(asked: Outline, first_step: Callable[[Given], Generation]) -> Choice:
    """Chooses the lengths of holes that have a range, one hole after the other.

    All lengths of a hole are tried in one batch of a single denoising step, from the same noise.
    The length is taken whose step is surest: it has the lowest mean entropy over the positions of
    the hole; of equal ones the shortest. Meanwhile the holes to the left have the lengths that were
    taken, and those to the right the middle one of theirs.

    Args:
      asked: the text.
      first_step: generates one step of each canvas behind the row's prompt, for each of several
        rows of given tokens, with the steps recorded.
    """
    sizes = asked.sizes(lambda lengths: lengths[len(lengths) // 2])
    passes, rounds = np.zeros(-(-asked.room // asked.canvas_size), np.int64), 0
    for i, piece in enumerate(asked.pieces):
        if not isinstance(piece, Hole) or piece.least == piece.most:
            continue
        options = [[*sizes[:i], length, *sizes[i + 1 :]] for length in piece.lengths]
        out = first_step(_stacked([asked.given(option) for option in options]))
        entropy = out.entropy[:, :, 0].reshape(len(options), -1)  # of canvases not begun it is -1
        at = sum(sizes[:i])
        parts = [row[at : at + option[i]] for row, option in zip(entropy, options, strict=True)]
        parts = [part[part >= 0] for part in parts]
        sizes = options[int(np.argmin([p.mean() if p.size else np.inf for p in parts]))]
        begun = np.sum(out.steps > 0, axis=0)
        passes += begun + np.where(np.arange(len(begun)) > 0, begun, 0)
        rounds += out.rounds
    return Choice(sizes, passes, rounds)


def plan_of(rows: Sequence[tuple[Outline, Choice]], filled: bool) -> Plan:
    """The plan of a batch.

    Args:
      rows: the text of each row, and the sizes of its pieces. All have the same room.
      filled: whether canvases are filled up behind the stop token.
    """
    return Plan(
        given=_stacked([asked.given(choice.sizes, filled) for asked, choice in rows]),
        written=np.stack([asked.written(choice.sizes) for asked, choice in rows]),
        sizes=[choice.sizes for _, choice in rows],
        passes=np.stack([choice.passes for _, choice in rows]),
        rounds=sum(choice.rounds for _, choice in rows),
    )


def _stacked(rows: Sequence[Given]) -> Given:
    return Given(*map(np.concatenate, zip(*rows, strict=True)))
