"""A row that cannot be sampled from, beside rows that can, on a model that says its prompts."""

import io
from types import SimpleNamespace

from data.text.chat import ModelTurn
from sample.command.answer import Answer, Request
from sample.command.answer_all import answer_all
from sample.command.canvas_view import Draft
from sample.command.output import Output
from sample.command.prompt_rows import from_text
from sample.stopping import NonFiniteLogits


class Broken:
    """Says what it is asked. The logits of some numbers are no numbers."""

    def __init__(self, *numbers: int):
        self.numbers, self.widths = numbers, []

    def request(self, row):
        return Request(row.number, [row.number or 0], str(row.number))

    def answer(self, requests, rows=None):
        width = max(rows or 0, len(requests))
        filled = [*requests, *requests[:1] * (width - len(requests))]
        self.widths.append(width)
        faults = {i: "no numbers" for i, r in enumerate(filled) if r.tokens[0] in self.numbers}
        if faults:
            raise NonFiniteLogits(faults)
        return [Answer(r, ModelTurn("", "", ()), [1], [1], "stop") for r in requests]


def ask(session: Broken, batch_size: int, samples: int = 1):
    """(rows that were answered, lines, number of refused rows) of five rows."""
    answers, said = [], []
    rows = [from_text("a", number) for number in range(1, 6)]
    arguments = lambda request: False, answers.append, said.append, samples
    refused = answer_all(session, rows, batch_size, *arguments)
    return [answer.request.number for answer in answers], said, refused


def test_the_others_of_its_batch_are_answered():
    for batch_size in (1, 2, 3, 8):
        found = ask(Broken(1, 5), batch_size)
        assert found == ([2, 3, 4], ["line 1: no numbers", "line 5: no numbers"], 2)
    # The width stays, because a program was compiled for it.
    assert ask(session := Broken(4), 3)[0] == [1, 2, 3, 5] and set(session.widths) == {3}
    assert ask(Broken(2), 4, samples=2) == ([1, 1, 3, 3, 4, 4, 5, 5], ["line 2: no numbers"], 1)
    assert ask(Broken(1, 2, 3, 4, 5), 2)[2] == 5


def test_a_draft_is_off_the_screen_before_an_error_is_told():
    stream = io.StringIO()
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special: "a")
    draft = Draft(tokenizer, (), stream, lambda: (80, 24))
    draft._show(["a draft"])
    output = Output(None, thoughts=False, samples=1)
    output.draft = draft
    output.close()
    assert stream.getvalue() == "a draft\r\x1b[J"
