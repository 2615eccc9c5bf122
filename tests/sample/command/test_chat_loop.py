"""The conversation, on a model that says what it was told to say."""

import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from data.text.chat import ModelTurn
from data.text.chat_template import ChatTemplate
from data.text.conversations import parse_conversation
from data.text.tokenizer import Tokenizer
from diffusiongemma import ModelConfig
from sample import AutoregressiveConfig, SamplerConfig
from sample.command import console
from sample.command.answer import Answer
from sample.command.chat_loop import chat
from sample.command.console import show
from sample.command.interrupts import STOPPING, Interrupts
from sample.command.session import Session
from sample.stopping import NonFiniteLogits

CTRL_C = KeyboardInterrupt()
PRESSED = object()  # Ctrl-C while an answer is made


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell's background jobs ignore Ctrl-C, and so would the tests in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Parrot(Session):
    """Records its prompts, and says one turn after the other."""

    def answer(self, requests, rows=None):
        self.asked.append(self.tokenizer.decode(requests[0].tokens, skip_special=False))
        said = self.says.pop(0)
        if isinstance(said, BaseException):
            raise said
        if said is PRESSED:
            assert not self._ended(np.zeros(1))
            os.kill(os.getpid(), signal.SIGINT)
            assert self._ended(np.zeros(1))
            self._go_on()
        return [Answer(requests[0], said, [1], [1], "stop")]


def turn(answer: str, thoughts: str = "") -> ModelTurn:
    return ModelTurn(thoughts, answer, ())


@pytest.fixture
def parrot() -> Parrot:
    tokenizer = Tokenizer.load()
    model = SimpleNamespace(config=ModelConfig.preset("tiny", max_length=120))
    template = ChatTemplate(tokenizer)
    ar = AutoregressiveConfig(20)
    session = Parrot(model, tokenizer, template, SamplerConfig(), ar, system="Be brief.")
    session.asked = []
    session.says = [turn(str(i)) for i in range(10)]
    return session


def talk(session: Session, *lines: str | BaseException) -> tuple[list[str], list[str]]:
    """Types the lines into a chat. Returns the answers, and the lines that are none."""
    rest, emitted, said = iter(lines), [], []

    def read(prompt: str) -> str | None:
        line = next(rest, None)
        if isinstance(line, BaseException):
            raise line
        return line

    with Interrupts(said.append) as interrupts:
        session.interrupted = interrupts.pressed
        chat(session, read, emitted.append, said.append, interrupts)
    assert next(rest, "all is read") == "all is read"
    return [answer.turn.answer for answer in emitted], said


def prompt_of(*texts: str, system: str | None = "Be brief.") -> str:
    """The prompt of a conversation, user and model in turn."""
    turns = [("system", system)] if system else []
    turns += [("user" if i % 2 == 0 else "model", text) for i, text in enumerate(texts)]
    said = "".join(f"<|turn>{name}\n{text}<turn|>\n" for name, text in turns)
    return f"<bos>{said}<|turn>model\n"


def test_turns_are_kept_without_thoughts(parrot):
    parrot.says = [turn("4<pad><pad<pad>>", thoughts="hm"), turn("5")]
    answers, said = talk(parrot, "2 + 2?", "a \ud800", "1 " * 100, " ", "2 + 3?")
    assert parrot.asked == [prompt_of("2 + 2?"), prompt_of("2 + 2?", "4<pad><pad<pad>>", "2 + 3?")]
    assert answers == ["4<pad><pad<pad>>", "5"]
    assert len(said) == 2 and "not UTF-8" in said[0]
    assert "exceed the model's context of 120" in said[1]


def test_a_blank_line_goes_on_and_exit_ends(parrot):
    with pytest.raises(AssertionError, match="never"):
        talk(parrot, "", " \n", "/exit", "never")
    assert talk(parrot) == ([], []) and parrot.asked == []


def test_commands(parrot):
    _, said = talk(parrot, "1?", "/undo", "2?", "/clear", "3?", "/undo", "/undo", "/system", "4?")
    asked = [prompt_of(f"{i}?") for i in (1, 2, 3)]
    assert parrot.asked == [*asked, prompt_of("4?", system=None)]
    assert "is undone" in said[0] and "nothing to undo" in said[3] and "removed" in said[4]
    # A conversation has one system turn, which /save writes.
    _, said = talk(parrot, "5?", "/system Be kind.", "/clear", "/system Be\nkind.", "5?")
    assert "stays" in said[0] and said[2] == "the system turn is set"
    assert parrot.asked[-1] == prompt_of("5?", system="Be\nkind.")


def test_what_is_no_command_is_named_and_not_asked(parrot):
    _, said = talk(parrot, "/home/me", "/Clear", "/clear all", "/help")
    assert parrot.asked == []
    assert said[0].startswith("/home/me: no such command") and "/Clear" in said[1]
    assert said[2] == "/clear takes nothing after it"
    for command in ("/clear", "/undo", "/system", "/save", "/help", "/exit", '"""', "Ctrl-C"):
        assert any(line.startswith(command) for line in said[3:])
    talk(parrot, '"""/clear"""', "/path\n1 2 3")
    assert parrot.asked == [prompt_of("/clear"), prompt_of("/clear", "0", "/path\n1 2 3")]


def test_a_saved_conversation_is_a_record_for_training(parrot, tmp_path):
    file, nowhere = tmp_path / "chat.jsonl", tmp_path / "no" / "where"
    file.write_text("{}")  # without a line end
    save = f"/save {file}"
    _, said = talk(parrot, save, "1?", save, "2?", save, "/save", f"/save {nowhere}")
    assert "nothing to save" in said[0] and "needs a FILE" in said[3]
    assert said[1] == f"1 question and its answer were added to {file}"
    assert said[2] == f"2 questions and their answers were added to {file}"
    assert said[4] == f"not saved: {nowhere}: No such file or directory"
    first, *lines = file.read_bytes().splitlines(keepends=True)
    assert first == b"{}\n"
    saved = [parse_conversation(line).messages for line in lines]
    assert [[m["content"] for m in messages] for messages in saved] == [
        ["Be brief.", "1?", "0"],
        ["Be brief.", "1?", "0", "2?", "1"],
    ]


def test_the_oldest_turns_leave_a_full_context(parrot, tmp_path):
    count = len(parrot.tokenizer.encode(prompt_of("1?")))
    pair = len(parrot.tokenizer.encode(prompt_of("1?", "0", "1?"))) - count
    room = parrot.model.config.max_length - 20
    fit = 1 + (room - count) // pair  # so many questions have room
    questions = [f"{i}?" for i in range(fit + 2)]
    save = f"/save {tmp_path / 'all'}"
    answers, said = talk(parrot, *questions, save, "/undo", questions[-1])
    assert answers == [str(i) for i in range(fit + 3)]
    texts = [text for i in range(fit + 2) for text in (f"{i}?", str(i))]
    assert parrot.asked[-1] == prompt_of(*texts[4:-1])
    assert [line for line in said if "context is full" in line] == said[:2]  # each once
    assert said[0].endswith("no longer sees the oldest question and its answer")
    assert said[1].endswith("no longer sees the oldest 2 questions and their answers")
    # Nothing is lost: all of it is saved.
    record = json.loads((tmp_path / "all").read_text())
    assert len(record["messages"]) == 1 + 2 * (fit + 2)


def test_ctrl_c_at_the_prompt_clears_the_line_and_a_second_one_ends(parrot):
    _, said = talk(parrot, CTRL_C, "1?", CTRL_C, "/undo", CTRL_C, CTRL_C)
    assert parrot.asked == [prompt_of("1?")]
    assert sum("Ctrl-C again" in line for line in said) == 3
    talk(parrot, '"""', "a", CTRL_C, "2?")  # the text in quotes is dropped
    assert parrot.asked[1:] == [prompt_of("2?")]


def test_an_answer_that_was_stopped_leaves_nothing(parrot):
    parrot.says = [CTRL_C, turn("2")]
    answers, said = talk(parrot, "1?", CTRL_C, "2?")
    assert answers == ["2"] and "stopped" in said[0]
    assert parrot.asked == [prompt_of("1?"), prompt_of("2?")]


def test_ctrl_c_while_an_answer_is_made_raises_nothing_and_leaves_nothing(parrot):
    parrot.says = [PRESSED, turn("2")]
    answers, said = talk(parrot, "1?", "2?")
    assert answers == ["2"] and said[0] == STOPPING and "stopped" in said[1]
    assert parrot.asked == [prompt_of("1?"), prompt_of("2?")]


def test_ctrl_c_is_told_at_once_and_the_last_one_ends_the_program(monkeypatch):
    said = []
    monkeypatch.setattr(os, "_exit", said.append)
    with Interrupts(said.append) as interrupts:
        for presses in (2, 1):
            with interrupts.held(presses):
                for count in range(1, presses + 1):
                    os.kill(os.getpid(), signal.SIGINT)
                    # The main thread does not ask, as if it were compiling.
                    for _ in range(1000):
                        time.sleep(0.001)
                        if len(said) >= (count if presses - count else count + 1):
                            break
            assert said == [STOPPING] * (presses - 1) + ["interrupted", 130]
            said.clear()
        with interrupts.held():
            assert not interrupts.pressed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_background_job_goes_on_ignoring_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts(lambda line: None) as interrupts, interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.pressed()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN


def test_logits_that_are_no_numbers_do_not_end_the_chat(parrot):
    parrot.says = [NonFiniteLogits({0: "the logits are not numbers"}), turn("2")]
    answers, said = talk(parrot, "1?", "2?")
    assert answers == ["2"] and said == ["no answer: the logits are not numbers"]
    assert parrot.asked[1] == prompt_of("2?")


def test_turns_that_went_out_for_a_question_that_is_not_kept_come_back(parrot):
    room = parrot.model.config.max_length - 20
    long = "1 " * 76  # has room, but not beside the others
    assert room - 5 < len(parrot.tokenizer.encode(prompt_of(long))) <= room
    parrot.says = [turn("0"), turn("1"), CTRL_C, turn("2"), turn("3"), turn("4")]
    _, said = talk(parrot, "0?", "1?", long, "2?", long, "/undo", "3?")
    assert parrot.asked[3] == prompt_of("0?", "0", "1?", "1", "2?")
    assert parrot.asked[2] == prompt_of(long)
    assert parrot.asked[-1] == prompt_of("0?", "0", "1?", "1", "2?", "2", "3?")
    assert sum("context is full" in line for line in said) == 2


def test_ctrl_c_is_known_at_once_to_the_watcher():
    seen = []
    with Interrupts(lambda line: None) as interrupts:
        watch = interrupts.watching(seen.append)
        with interrupts.held():
            assert watch("first") is False
            os.kill(os.getpid(), signal.SIGINT)
            assert watch("second") is True and watch("third") is True
        with interrupts.held():
            assert watch("fourth") is False
    assert seen == ["first", "fourth"] and signal.set_wakeup_fd(-1) == -1


def test_thoughts_are_printed_if_asked_for(capsys):
    answer = Answer(None, turn(" 4\x07", "hm"), [1], [1], "stop")
    show(answer, thoughts=False)
    assert capsys.readouterr().out == " 4\x07\n"
    show(answer, thoughts=True)
    assert capsys.readouterr().out == "hm\n\n 4\x07\n"


def test_a_terminal_is_told_of_an_answer_that_was_cut_off(capsys, monkeypatch):
    answer = Answer(None, turn("4"), [1, 1], [16, 8], "length")
    show(answer, thoughts=False)
    assert capsys.readouterr() == ("4\n", "")
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    show(answer, thoughts=False)
    show(answer._replace(finish_reason="stop"), thoughts=False)
    said = capsys.readouterr()
    assert (
        said.err == "(cut off after 24 tokens: --max-new-tokens=N allows more)\n"
        and said.out == "4\n" * 2
    )
