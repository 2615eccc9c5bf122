"""What whoever asked is told of an answer, one after the other."""

from typing import Any, NamedTuple


class Started(NamedTuple):
    """The answer is begun.

    Attributes:
      prompt_tokens: number of tokens of the prompt.
      prompt: its text, as the chat template wrote it; "" unless steps are shown.
      view: how a page draws the answer (`Task.view_of_message`); None for text.
    """

    prompt_tokens: int
    prompt: str = ""
    view: dict[str, Any] | None = None


class Grown(NamedTuple):
    """A choice has grown by a canvas.

    Attributes:
      index: the number of the choice, from 0.
      content, reasoning: what is new in its answer and in its thoughts.
    """

    index: int
    content: str
    reasoning: str


class Stepped(NamedTuple):
    """A step was taken.

    Attributes:
      step: what steps.py says of it.
    """

    step: dict[str, Any]


class Decoded(NamedTuple):
    """Tokens of an answer left to right.

    Attributes:
      texts: the texts of those that are new.
    """

    texts: list[str]


class Said(NamedTuple):
    """A choice is whole.

    Attributes:
      index: the number of the choice, from 0.
      message: the message, with "content", and with "tool_calls" if the model calls tools.
      reasoning: the model's thoughts; "" for none.
      rest: what is new since the last Grown of the choice.
      finish_reason: "stop", "length", "tool_calls", or "abort" if the server is being stopped.
      steps, valid_tokens: as in Answer, of each canvas.
    """

    index: int
    message: dict[str, Any]
    reasoning: str
    rest: Grown
    finish_reason: str
    steps: list[int]
    valid_tokens: list[int]
