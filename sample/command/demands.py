"""Demands on answers: regular expressions, compiled once, and whether an answer can meet them."""

from collections.abc import Sequence

from data.text.holes import Hole
from data.text.tokenizer import Tokenizer
from sample.command.fill import Outline
from sample.given import check_given
from sample.obey import Constraint, find_completions

MOST_KEPT = 8  # compiled demands of rows, which often have the same ones


def compile_demand(
    demand: str,
    kept: dict[str, Constraint],
    tokenizer: Tokenizer,
    vocab_size: int,
    stop_ids: Sequence[int],
) -> Constraint:
    """The constraint that a demand is compiled to.

    Args:
      demand: the regular expression.
      kept: the last few constraints, by their demand. Gets this one.
      tokenizer: the model's tokenizer.
      vocab_size: V.
      stop_ids: tokens that end a generation.

    Raises:
      ValueError: the demand cannot be used.
    """
    if demand not in kept:
        constraint = Constraint.regex(demand, tokenizer, vocab_size, stop_ids)
        if len(kept) == MOST_KEPT:
            del kept[next(iter(kept))]
        kept[demand] = constraint
    return kept[demand]


def check_fits(
    constraint: Constraint, new_tokens: int, form: Outline | None, filled: bool, vocab_size: int
) -> None:
    """Raises ValueError if no answer can meet a constraint.

    Args:
      constraint: the constraint.
      new_tokens: number of tokens that an answer may have.
      form: the text to fill in or edit; None for an answer of the model's own.
      filled: whether what is given of a form fills whole canvases, as Outline.given says.
      vocab_size: V.
    """
    if form is None:
        find_completions(constraint.automaton, new_tokens, None)
        return
    if any(isinstance(piece, Hole) and piece.least < piece.most for piece in form.pieces):
        raise ValueError(
            "a hole whose length is a range cannot obey an expression or a schema: give "
            "one length, as <fill:12> does"
        )
    given = check_given(form.given(form.sizes(max), filled), 1, form.room, vocab_size)
    try:
        find_completions(constraint.automaton, form.room, given)
    except ValueError as error:
        raise ValueError(
            "the text that stays and the constraint do not go together: "
            + str(error).removeprefix("row 0: ")
        ) from None
