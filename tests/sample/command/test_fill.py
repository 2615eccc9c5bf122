"""Texts that are filled in and edited: what stays is kept to the token and to the byte."""

import io
import json

import jax
import numpy as np
import pytest

from data.text.holes import Hole, Span
from data.text.parts import NOTHING
from data.text.tokenizer import Tokenizer
from sample import Generation, Snapshot
from sample import main as command
from sample.autoregressive import Continuation
from sample.command import session as sessions
from sample.command.canvas_view import PLAIN, UNDERLINED, Draft
from sample.command.interrupts import Interrupts
from sample.command.prompt_rows import FILL_PROMPT
from sample.given import CanvasGiven
from sample.stopping import NonFiniteLogits
from tests.sample.asking import CANVAS, PROMPTS, asked, lines, outline_of, padded_prompt


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load()


def run(folder, *flags: str) -> int:
    return command.main(["main", f"--checkpoint={folder}", "--max-steps=3", "--seed=5", *flags])


def written_by(generated: list[dict], tokenizer: Tokenizer):
    """A generate that writes 7 in every hole, answers every prompt with 7, and notes its calls."""
    seven = tokenizer.encode("7")[0]

    def generate(model, tokens, mask, keys, config, *, given, clock, **options):
        generated.append({"given": given, "config": config})
        if clock:
            clock.seconds["denoise"] += 12
        shape = len(tokens), config.max_new_tokens or CANVAS
        steps = np.ones((shape[0], -(-shape[1] // CANVAS)), np.int32)
        if given is None:
            return Generation(np.full(shape, seven, np.int32), steps, steps)
        return Generation(np.where(given.tokens == NOTHING, seven, given.tokens), steps, steps)

    return generate


@pytest.fixture
def recorded(monkeypatch) -> list[tuple[tuple, dict, Generation]]:
    """The calls of generate, with what they gave."""
    calls, real = [], sessions.generate

    def generate_and_note(*arguments, **options):
        calls.append((arguments[1:], options, real(*arguments, **options)))
        return calls[-1][2]

    monkeypatch.setattr(sessions, "generate", generate_and_note)
    return calls


def test_fill_across_canvases_on_the_screen(folder, tokenizer, recorded, capsys):
    text = "Solve it: 1<fill:12> and▁\n<fill:3> é"
    assert run(folder, f"--fill={text}", "--draft") == 0
    [((tokens, mask, *_), options, out)] = recorded
    np.testing.assert_array_equal([tokens, mask], padded_prompt(FILL_PROMPT))
    form = outline_of(text, tokenizer)
    given = form.given(sizes := form.sizes(max))
    np.testing.assert_array_equal(options["given"], given)
    np.testing.assert_array_equal(out.tokens[given.keep], given.tokens[given.keep])
    said = capsys.readouterr()
    assert said.out == f"{form.text(sizes, out.tokens[0], tokenizer)}\n"
    before, middle, after = text.replace("<fill:12>", "|").replace("<fill:3>", "|").split("|")
    assert said.out.startswith(before) and said.out.endswith(f"{after}\n") and middle in said.out
    # Only the tokens of the holes count; two canvases take three steps each, and a commit.
    assert f"15 tokens, 6 steps, 3.0 effective steps, TPF {15 / 7:.2f}, " in said.err
    # Kept tokens are drawn as they are, and only others as noise.
    first, *others = said.err.split("\x1b[J")
    assert len(others) >= 6 and UNDERLINED in first and "Solve it: 1" in first


def test_both_modes_are_printed_and_compared(folder, tokenizer, capsys, monkeypatch):
    passes = []

    def left_to_right(model, tokens, mask, keys, config, *, given, clock, **options):
        if clock:  # not when the program is warmed up
            clock.seconds["decode"] += 12
        passes.append(int(np.flatnonzero(given.keep[0])[-1]) + 1)  # up to the last kept token
        tokens = np.where(given.tokens == NOTHING, tokenizer.encode(" 5")[0], given.tokens)
        return Continuation(tokens, np.array(passes[-1:]))

    monkeypatch.setattr(sessions, "generate", written_by([], tokenizer))
    monkeypatch.setattr(sessions, "generate_autoregressive", left_to_right)
    assert run(folder, "--mode=both", "--fill=1 2<fill:4> 4") == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 27777 4\n1 2 5 5 5 5 4\n| | diffusion | autoregressive |\n")
    assert said.err.startswith("diffusion:\nar:\n")
    # Left to right, each kept token takes a pass, and so does the stop token; no fill does.
    assert passes == [8, 8]
    assert "\n4 tokens, 1 step, " in said.err and "\n4 tokens, 8 steps, TPF 0.50" in said.err


def test_the_length_whose_first_step_is_surest(folder, tokenizer, recorded, capsys):
    text = "1 2<fill:1-4> 3"
    assert run(folder, f"--fill={text}") == 0
    tries, (_, options, out) = recorded
    given, entropy = tries[1]["given"], tries[2].entropy
    for n in range(1, 5):
        _, _, alone = asked(text, tokenizer, n)
        np.testing.assert_array_equal([x[n - 1] for x in given], [x[0] for x in alone])
    length = 1 + int(np.argmin([entropy[n - 1, 0, 0, 2 : 2 + n].mean() for n in range(1, 5)]))
    form, sizes, best = asked(text, tokenizer, length)
    np.testing.assert_array_equal(options["given"], best)
    # They are tried from the noise that the answer starts from, without being drawn.
    keys = [jax.random.key_data(call[0][2]) for call in recorded]
    np.testing.assert_array_equal(*keys)
    np.testing.assert_array_equal(tries[0][0], np.repeat(recorded[1][0][0], 4, axis=0))
    said = capsys.readouterr()
    assert said.out == f"{form.text(sizes, out.tokens[0], tokenizer)}\n"
    plural = "s" * (length > 1)
    assert said.err.startswith(f"{length} token{plural}, {4 + 3} steps, ")


def test_ctrl_c_is_heard_after_each_canvas(folder, tokenizer, monkeypatch):
    """Also where kept tokens follow, and rows would not end."""
    calls = []

    def stopping(*arguments, ended, **options):
        calls.append(ended)
        with pytest.raises(KeyboardInterrupt):
            ended(np.zeros(CANVAS, np.int32))
        raise KeyboardInterrupt

    monkeypatch.setattr(sessions, "generate", stopping)
    monkeypatch.setattr(Interrupts, "pressed", lambda self: bool(calls))
    assert run(folder, "--fill=1<fill:20>2") == 130


def test_records_of_all_kinds(folder, tokenizer, tmp_path, capsys, monkeypatch):
    records = [
        {"prompt": PROMPTS[0]},
        {"fill": "1<fill:2> 2"},
        {"fill": "1<fill:2> 2", "messages": [{"role": "user", "content": PROMPTS[0]}]},
        {"fill": "1<fill:0>"},
        {"fill": "1<fill:2> 2 é", "system": "Be short.", "id": 3},
        {"edit": "1 2\n3 4\n", "spans": "2", "prompt": None},
        {"edit": "1 2", "spans": None, "prompt": "a"},
        {"prompt": PROMPTS[1], "spans": [[0, 3]]},
        {"fill": "1<fill:20>"},
        {"fill": "<fill:3>\ud800"},
        {"fill": "<pad><fill:3>", "prompt": "What is <pad>?"},
        {"fill": 3},
        {"fill": "<fill:100>" * 2},
    ]
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    flags = f"--prompts={file}", f"--out={out}", "--batch-size=2", "--max-new-tokens=24"
    generated = []
    monkeypatch.setattr(sessions, "generate", written_by(generated, tokenizer))
    assert run(folder, *flags) == 1
    said = capsys.readouterr().err.splitlines()
    faults = {
        4: "fill: hole 1, <fill:0>: a hole has at least 1 token",
        7: "edit without spans",
        10: "the text is not UTF-8",
        11: "the text has <pad>, a special token",
        12: "fill: expected text",
        13: "the text has 200 tokens with its holes, more than --max-new-tokens=24",
    }
    warning = f"{file}: warning: not understood, so not used: spans (in 1 record)"
    assert said[0] == warning
    named = [line for line in said if line.startswith("line ")]
    for line, (number, fault) in zip(named, faults.items(), strict=True):
        assert line.startswith(f"line {number}: ") and fault in line
    found = {record["row"]: record for record in lines(out)}
    answers = {2: "177 2", 3: "177 2", 5: "177 2 é", 6: "1 2\n3 4\n", 9: f"1{'7' * 20}"}
    assert {row: found[row]["answer"] for row in answers} == answers
    assert [found[row]["generated_tokens"] for row in (2, 6, 9)] == [2, 2, 20]
    assert found[9]["valid_tokens"] == [15, 5] and found[9]["finish_reason"] == "stop"
    # Texts of as many canvases are together, and prompts beside them are asked as always.
    assert list(found) == [1, 2, 3, 5, 6, 8, 9]
    rooms = [(call["config"].max_new_tokens, call["given"] is None) for call in generated]
    assert rooms == [(24, True), (16, False), (16, False), (24, True), (24, False)]

    # Nothing is asked again but what has changed.
    records[1]["fill"] = "1<fill:3> 2"
    file.write_text("\n".join(map(json.dumps, records)))
    assert run(folder, *flags) == 1
    assert "6 answers found in" in capsys.readouterr().err
    assert [record["row"] for record in lines(out)] == [*found, 2]
    assert lines(out)[-1]["answer"] == "1777 2"


def test_records_may_be_piped_in(folder, tokenizer, capsys, monkeypatch):
    monkeypatch.setattr(sessions, "generate", written_by([], tokenizer))
    monkeypatch.setattr("sys.stdin", io.StringIO('{"fill": "1<fill:2>2"}'))
    assert run(folder, "--num-samples=2") == 0
    assert capsys.readouterr().out == "1772\n1772\n"


def test_an_edit_starts_from_its_text_and_shows_a_diff(folder, tokenizer, capsys, monkeypatch):
    generated, text = [], "1 2\n3 4\n5 6"
    monkeypatch.setattr(sessions, "generate", written_by(generated, tokenizer))
    assert run(folder, f"--edit={text}", "--spans=2") == 0
    said = capsys.readouterr()
    assert said.out == f"{text}\n" and said.err.startswith("(no change)\n")
    given, ids = generated[0]["given"], tokenizer.encode(text)
    assert given.tokens[0, : len(ids)].tolist() == ids
    assert np.flatnonzero(~given.keep[0]).tolist() == [3, 4]

    def changing(*arguments, given, **options):
        out = written_by(generated, tokenizer)(*arguments, given=given, **options)
        return out._replace(tokens=np.where(given.keep, out.tokens, tokenizer.encode("7")[0]))

    monkeypatch.setattr(sessions, "generate", changing)
    assert run(folder, f"--edit={text}", "--spans=2") == 0
    said = capsys.readouterr()
    assert said.out == "1 2\n77\n5 6\n"
    assert said.err.startswith("--- before\n+++ after\n@@ -1,3 +1,3 @@\n 1 2\n-3 4\n+77\n 5 6\n")


ERRORS = {
    "--fill=a": "fill: the text has no hole",
    "--fill=": "fill: the text is empty",
    "--fill=<fill:2> --edit=a --spans=a": "both fill and edit",
    "--spans=a": "spans without edit",
    "--edit=a --prompt=b": "edit without spans",
    "--fill=<fill:2> --prompts=b": "--fill, --edit and --spans are for one text",
    "--fill=<fill:2> --prompt=": "the prompt is empty",
    "--fill=<eos><fill:2>": "the text has <eos>, a special token",
    "--fill=<fill:2>\udcff": "the text is not UTF-8",
    "--fill=<fill:17> --max-new-tokens=16": "17 tokens with its holes, more than --max-new",
    "--fill=<fill:999999>": "context of 200: give a shorter prompt or text",
    "--fill=<fill:2> --stop=a": "--stop and --thinking are for answers of the model's own",
    "--fill=<fill:2> --thinking": "--stop and --thinking are for answers of the model's own",
    "--fill=<fill:2-3> --mode=ar": "<fill:2-3> tries lengths on a canvas",
    "--fill=<fill:2-3> --mode=both": "give one length, as <fill:3> does",
    "--edit=ab --spans=a --mode=ar": "an edit needs a canvas to start from",
    "--edit=ab --spans=a --mode=both": "an edit needs a canvas to start from",
}  # fmt: skip


@pytest.mark.parametrize("flags", ERRORS)
def test_bad_input_is_one_line(flags, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert command.main(["main", f"--checkpoint={folder}", *flags.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and ERRORS[flags] in said.err


def test_a_row_whose_lengths_fail_is_named(folder, tokenizer, capsys, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        if arguments[4].max_steps == 1:
            raise NonFiniteLogits({0: "no numbers"})
        return written_by([], tokenizer)(*arguments, **options)

    monkeypatch.setattr(sessions, "generate", broken)
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"fill": "1<fill:2>"}\n{"fill": "2<fill:2-4>"}\n{"fill": "3<fill:2>"}\n')
    assert run(folder, f"--prompts={file}", "--batch-size=3") == 1
    said = capsys.readouterr()
    assert said.out == "177\n377\n" and said.err.startswith("line 2: no numbers\n")


def test_a_draft_goes_on_behind_a_stop_token_in_a_hole(tokenizer):
    _, _, given = asked("1<fill:2> 3", tokenizer, 2)
    best = given.tokens.copy()
    best[0, 1:3] = tokenizer.turn_end_id, *tokenizer.encode(" 2")
    later = np.arange(CANVAS) < CANVAS - 1
    there = CanvasGiven(given.tokens, given.keep, later[None])
    accepted = np.arange(CANVAS)[None] == 1
    still = np.zeros(best.shape, np.float32)
    stream = io.StringIO()
    draft = Draft(tokenizer, tokenizer.stop_ids, stream, lambda: (80, 3))
    draft.draw(Snapshot(np.int32(0), np.int32(1), best, accepted, still, np.array([True]), there))
    noisy = "".join(f"{UNDERLINED}{c}{PLAIN}" for c in " 2")
    assert stream.getvalue() == f"1<turn|>{noisy} 3"  # kept tokens are not noise, and the end ends


def test_pieces_are_told_apart_in_checksums():
    assert json.dumps([Hole(3, 3)]) != json.dumps([Span("3")]) != json.dumps(["3"])
