"""The conversation, on a model that repeats what it was told to say."""

from types import SimpleNamespace

import pytest

from data.text.chat import ModelTurn
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma import ModelConfig
from sample import AutoregressiveConfig, SamplerConfig
from sample.command.chat_loop import chat
from sample.command.console import show
from sample.command.session import Answer, Session


class Parrot(Session):
    """Records its prompts, and says one turn after the other."""

    def answer(self, requests, rows=None):
        self.asked.append(self.tokenizer.decode(requests[0].tokens, skip_special=False))
        return [Answer(requests[0], self.says.pop(0), [1], [1])]


@pytest.fixture
def parrot() -> Parrot:
    tokenizer = Tokenizer.load()
    model = SimpleNamespace(config=ModelConfig.preset("tiny", max_length=120))
    template = ChatTemplate(tokenizer)
    ar = AutoregressiveConfig(20)
    session = Parrot(model, tokenizer, template, SamplerConfig(), ar, system="Be brief.")
    session.asked = []
    session.says = [ModelTurn("hm", "4<pad><pad<pad>>", ()), ModelTurn("", "5", ())]
    return session


def test_turns_are_kept_without_thoughts(parrot):
    lines = iter(["2 + 2?", "a \ud800", "1 " * 100, "2 + 3?", " ", "never"])
    emitted, complaints = [], []
    chat(parrot, lambda: next(lines), emitted.append, complaints.append)
    head = "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\n2 + 2?<turn|>\n<|turn>model\n"
    assert parrot.asked == [head, f"{head}4<turn|>\n<|turn>user\n2 + 3?<turn|>\n<|turn>model\n"]
    assert [a.turn.answer for a in emitted] == ["4<pad><pad<pad>>", "5"]
    assert len(complaints) == 2 and next(lines) == "never"
    assert "surrogate" in complaints[0]
    assert "exceed the model's context of 120" in complaints[1]


def test_the_end_of_input_ends_it(parrot):
    chat(parrot, lambda: None, None, None)
    assert parrot.asked == []


def test_thoughts_are_printed_if_asked_for(parrot, capsys):
    answer = Answer(None, ModelTurn("hm", " 4\x07", ()), [1], [1])
    show(answer, thoughts=False)
    assert capsys.readouterr().out == " 4\x07\n"
    show(answer, thoughts=True)
    assert capsys.readouterr().out == "hm\n\n 4\x07\n"
