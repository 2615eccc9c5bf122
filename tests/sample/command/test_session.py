"""A session answers left to right too, in both modes, several times, and up to stop texts."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from data.text.chat import split_turn
from data.text.chat_template import ChatTemplate
from data.text.holes import Hole
from data.text.marked_text import MarkedText
from data.text.tokenizer import Tokenizer
from diffusiongemma import ModelConfig, load_checkpoint
from sample import AutoregressiveConfig, SamplerConfig, Starts, generate_autoregressive
from sample import main as command
from sample.command import session as sessions
from sample.command.prompt_rows import from_pieces, from_text
from sample.command.session import Session
from sample.command.sight import ContextFull
from sample.generation import Generation
from tests.sample.asking import NEW, PROMPTS, answer_text, lines, padded_prompt, run


def test_left_to_right_and_both(folder, capsys, monkeypatch):
    config = AutoregressiveConfig(NEW, temperature=0)
    prompt = padded_prompt(PROMPTS[0])
    out = generate_autoregressive(load_checkpoint(folder), *prompt, jax.random.key(5), config)
    arguments = ["main", f"--checkpoint={folder}", f"--max_new_tokens={NEW}", "--temperature=0"]
    assert command.main([*arguments, f"--prompt={PROMPTS[0]}", "--mode=ar"]) == 0
    said = capsys.readouterr()
    valid = int(out.valid_tokens[0])
    assert said.out == f"{answer_text(out.tokens[0, :valid])}\n"
    assert f"{valid} tokens, {valid} steps, TPF 1.00" in said.err

    clocks, generate_once = [], Session._generate

    def watched(session, tokens, mask, keys, clock, *others, **named):
        clocks.append((session.mode, clock is not None))
        return generate_once(session, tokens, mask, keys, clock, *others, **named)

    monkeypatch.setattr(Session, "_generate", watched)
    arguments += [f"--prompt={PROMPTS[0]}", "--mode=both", "--max_steps=3"]
    assert command.main(arguments) == 0
    # Each program runs once before it is timed.
    assert clocks == [(mode, timed) for mode in ("diffusion", "ar") for timed in (False, True)]
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| | diffusion | autoregressive |"
    cells = {row.split("|")[1].strip(): row.split("|")[2:4] for row in table[2:-2]}
    assert [cell.strip() for cell in cells["prompts"]] == ["1", "1"]
    assert cells["forward passes"][1].strip() == str(valid)
    assert float(cells["tokens per forward"][0]) > 1 == float(cells["tokens per forward"][1])
    assert table[-1].startswith("r = ")


def session_that_gets(generation: Generation | None, monkeypatch, **sampler) -> Session:
    """A session whose model generates this, in 12 seconds of denoising."""

    def generate(*_, clock, **__):
        clock.seconds["denoise"] += 12
        return generation

    monkeypatch.setattr("sample.command.session.generate", generate)
    tokenizer = Tokenizer.load()
    model = SimpleNamespace(config=ModelConfig.preset("tiny", max_length=120))
    template, ar = ChatTemplate(tokenizer), AutoregressiveConfig(20)
    return Session(model, tokenizer, template, SamplerConfig(**sampler), ar)


def test_a_mention_of_a_token_in_an_answer_is_text(monkeypatch):
    tokenizer = Tokenizer.load()
    said = tokenizer.encode(MarkedText.read("<eos> ends it, <pad> fills it."))
    out = np.array([[*said, tokenizer.turn_end_id]])
    generation = Generation(out, np.array([[1]]), np.array([[out.size]]))
    session = session_that_gets(generation, monkeypatch)
    [answer] = session.answer([session.request(from_text("What is <eos>?"))])
    assert answer.turn.answer == "<eos> ends it, <pad> fills it."


def test_a_text_of_megabytes_is_refused_by_its_beginning(monkeypatch):
    session = session_that_gets(None, monkeypatch)
    encoded = []
    monkeypatch.setattr(Tokenizer, "encode", lambda _, text: encoded.append(text))
    words = "12 " * 300_000
    for row in (from_text(words), from_pieces((words, Hole(1, 1)), "Fill.")):
        with pytest.raises(ContextFull, match=r"900,\d+ characters have more tokens than .* 120:"):
            session.request(row)
    # The prompt of the second is short, and it is encoded after both have been looked at.
    assert encoded == []


def test_ctrl_c_makes_no_answer(monkeypatch):
    session = session_that_gets(None, monkeypatch)
    session.interrupted = iter([False, True, True]).__next__
    request = session.request(from_text("a"))
    for _ in range(2):  # pressed while an answer is made, and between two
        with pytest.raises(KeyboardInterrupt):
            session.answer([request])
    assert not session.statistics["diffusion"].sequences


def test_a_call_that_cannot_be_parsed_goes_back_as_text(monkeypatch):
    session = session_that_gets(None, monkeypatch)
    turn = split_turn("Well.<|tool_call>call:f{a:1}<tool_call|><|tool_call>f(1)<tool_call|>")
    message = session.as_message(turn)
    assert message["content"] == "Well.\nf(1)" and len(message["tool_calls"]) == 1
    only = split_turn("<|tool_call>f(1)<tool_call|>")
    assert session.as_message(only) == {"role": "assistant", "content": "f(1)"}


def test_of_several_starts_drafts_are_of_one_and_steps_of_all(monkeypatch):
    one, two = Tokenizer.load().encode("12")
    best = np.array([[[[one], [two], [-1], [-1]]]])
    entropy = np.where(best < 0, -1, 0.5)
    each = np.array([[[2, 4]]])
    starts = Starts(np.array([[[[two], [one]]]]), each, each * 0 + 1, each / 10)
    count, steps = np.array([[1]]), np.array([[6]])
    generation = Generation(np.array([[two]]), steps, count, best, best >= 0, entropy, starts)
    session = session_that_gets(generation, monkeypatch, starts=2, trajectory=True)
    [answer] = session.answer([session.request(from_text("Count."))])
    assert answer.steps == [6] and [d["text"] for d in answer.drafts[0]] == ["1", "2"]
    figures = session.statistics["diffusion"].figures()
    assert figures["effective_steps"] == 6 and figures["seconds_per_step"] == 12 / 4


def test_answers_of_versions_without_starts_still_count(monkeypatch):
    """The checksum is that of commit 3b8b9b2; it does not depend on settings that came later."""
    checksums = [
        session_that_gets(None, monkeypatch, starts=n).request(from_text("Count.")).checksum
        for n in (1, 2)
    ]
    assert checksums[0] == "7a6ba368cc9162f5" != checksums[1]


def test_samples_differ_and_the_first_is_the_answer_of_old(folder, expected, tmp_path, capsys):
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_text("\n".join(PROMPTS[:2]))
    arguments = (f"--prompts={file}", "--batch-size=2", f"--out={out}")
    assert run(folder, *arguments, "--num-samples=2") == 0
    count = sum(record["generated_tokens"] for record in lines(out))
    assert f"\n{count} tokens, " in capsys.readouterr().err
    # More samples later: those that are there count, and they are no others.
    assert run(folder, *arguments, "--num-samples=3") == 0
    assert "4 answers found in" in capsys.readouterr().err
    found = {(r["row"], r["sample"]): r["answer"] for r in lines(out)}
    assert sorted(found) == [(row, sample) for row in (1, 2) for sample in range(3)]
    assert [found[row, 0] for row in (1, 2)] == [text for text, _ in expected[:2]]
    assert len(set(found.values())) == 6

    # On a terminal or in a pipe, each has a heading on stderr.
    assert run(folder, f"--prompts={file}", "--num-samples=2") == 0
    said = capsys.readouterr()
    assert said.out == "".join(f"{found[row, n]}\n" for row in (1, 2) for n in (0, 1))
    heads = [f"line {row}, sample {n}:" for row in (1, 2) for n in (0, 1)]
    assert said.err.splitlines()[:4] == heads


def test_a_stop_text_ends_the_answer_and_the_generation(folder, expected, capsys, monkeypatch):
    generate, seen = sessions.generate, []

    def until_ended(*arguments, ended=None, **options):
        """Tells whether the answer was ended; generates all of it in any case."""
        out = generate(*arguments, **options)
        for row, valid in zip(out.tokens, out.valid_tokens, strict=True):
            seen.append([ended(row[:n]) for n in valid.cumsum()])
        return out

    monkeypatch.setattr(sessions, "generate", until_ended)
    text, _ = expected[0]
    at = len(text) // 4
    stop, never = text[at : at + 3], "no such text"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--stop={never}", f"--stop={stop}") == 0
    assert capsys.readouterr().out == f"{text[: text.index(stop)]}\n"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--stop={never}") == 0
    assert capsys.readouterr().out == f"{text}\n"
    assert seen == [[True, True], [False, False]]
