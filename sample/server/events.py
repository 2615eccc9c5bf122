"""What whoever asked is told of an answer, one after the other."""

from typing import Any, NamedTuple


class Started(NamedTuple):
    """The answer is begun.

    Attributes:
      prompt_tokens: number of tokens of the prompt.
      prompt: its text, as the chat template wrote it; "" unless steps are shown.
    """

    prompt_tokens: int
    prompt: str = ""


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


class Said(NamedTuple):
    """A choice is whole.

    Attributes:
      index: the number of the choice, from 0.
      message: the message, with "content", and with "tool_calls" if the model calls tools.
      reasoning: the model's thoughts; "" for none.
      rest: what is new since the last Grown of the choice.
      finish_reason: "stop", "length" or "tool_calls".
      steps, valid_tokens: as in Answer, of each canvas.
    """

    index: int
    message: dict[str, Any]
    reasoning: str
    rest: Grown
    finish_reason: str
    steps: list[int]
    valid_tokens: list[int]
