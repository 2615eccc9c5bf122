"""The command on a tiny checkpoint: answers, files that are gone on with, and bad input."""

import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from data.text.chat import split_turn
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from sample import AutoregressiveConfig, SamplerConfig, generate, generate_autoregressive
from sample import main as command
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.command.session import Session
from tests.data.text.messages import chat_prompt

CANVAS, NEW = 16, 24  # two canvases, the second one cut
FLAGS = (f"--max_new_tokens={NEW}", "--max_steps=3", "--seed=5")
PROMPTS = ("Solve it: 1 2 3", "What is 2 + 2?", "Write it: a b c d")
WIDTH = 64  # to which prompts are padded; with another one rounding might differ


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    config = ModelConfig.preset(
        "tiny",
        vocab_size=1024,
        canvas_size=CANVAS,
        layer_types=("sliding", "full"),
        max_length=200,
        stop_ids=(1, 106, 50),
    )
    path = tmp_path_factory.mktemp("main") / "model"
    save_checkpoint(DiffusionGemma(config, rngs=nnx.Rngs(0)), path)
    Tokenizer.load().save(path)
    return path


def padded_prompt(text: str) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array(Tokenizer.load().encode(chat_prompt(text)), np.int32)
    tokens = np.pad(tokens, (0, WIDTH - len(tokens)))[None]
    return tokens, tokens > 0


def answer_text(tokens: np.ndarray) -> str:
    return split_turn(Tokenizer.load().decode(tokens, skip_special=False)).answer


@pytest.fixture(scope="module")
def expected(folder) -> list[tuple[str, int]]:
    """Answers and numbers of tokens, as `generate` gives them prompt by prompt."""
    model, config = load_checkpoint(folder), SamplerConfig(max_steps=3, max_new_tokens=NEW)
    answers = []
    for text in PROMPTS:
        out = generate(model, *padded_prompt(text), jax.random.key(5), config)
        valid = out.valid_tokens.sum()
        answers.append((answer_text(out.tokens[0, :valid]), int(valid)))
    assert len(set(answers)) == 3 and all(text for text, _ in answers)
    return answers


def run(folder: Path, *flags: str) -> int:
    return command.main(["main", f"--checkpoint={folder}", *FLAGS, *flags])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_into_a_pipe_goes_the_answer_alone(folder, expected, capsys, monkeypatch):
    assert run(folder, f"--prompt={PROMPTS[0]}") == 0
    said = capsys.readouterr()
    text, tokens = expected[0]
    assert said.out == f"{text}\n"
    assert said.err.startswith(f"{tokens} tokens, ") and said.err.count("\n") == 1
    for part in ("steps", "effective steps", "TPF", "tokens/s", "prefill", "peak host memory"):
        assert part in said.err

    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PROMPTS[0]}\n"))
    assert run(folder) == 0
    assert capsys.readouterr().out == f"{text}\n"

    # Another seed, another answer: the flag arrives.
    assert run(folder, f"--prompt={PROMPTS[0]}", "--seed=6") == 0
    assert capsys.readouterr().out != f"{text}\n"


def test_a_draft_goes_to_stderr_and_changes_nothing(folder, expected, capsys):
    assert run(folder, f"--prompt={PROMPTS[0]}", "--draft") == 0
    said = capsys.readouterr()
    assert said.out == f"{expected[0][0]}\n"
    assert said.err.count("\x1b[J") >= 4  # three steps or more, and the draft is taken away


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_files_of_prompts(folder, expected, tmp_path, capsys, kind):
    file = tmp_path / f"prompts.{kind}"
    as_json = [
        {"prompt": PROMPTS[0], "id": 7},
        {"messages": [{"role": "user", "content": PROMPTS[1]}]},
        {"prompt": PROMPTS[2]},
    ]
    texts = PROMPTS if kind == "txt" else map(json.dumps, as_json)
    file.write_text("\r\n".join(texts))
    assert run(folder, f"--prompts={file}", "--batch-size=2") == 0
    assert capsys.readouterr().out == "".join(f"{text}\n" for text, _ in expected)


def test_a_cut_off_file_is_gone_on_with(folder, expected, tmp_path, capsys, monkeypatch):
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_text("\n".join(PROMPTS) + "\n")
    asked = []
    answer = Session.answer

    def counted(session, requests, rows=None):
        asked.extend(r.number for r in requests)
        return answer(session, requests, rows)

    monkeypatch.setattr(Session, "answer", counted)
    arguments = (f"--prompts={file}", f"--out={out}")
    assert run(folder, *arguments) == 0
    assert capsys.readouterr().out == ""
    whole = out.read_bytes()
    assert [(r["row"], r["answer"], sum(r["valid_tokens"])) for r in lines(out)] == [
        (i + 1, text, tokens) for i, (text, tokens) in enumerate(expected)
    ]
    first = whole.index(b"\n") + 1
    long_tail = b'{"row": 2, ' + b"x" * len(whole)
    for cut, tail in (
        (first + 30, b""),
        (first + 3, b""),
        (first, long_tail),
        (first, b""),
        (0, b""),
    ):
        asked.clear()
        out.write_bytes(whole[:cut] + tail)
        assert run(folder, *arguments) == 0
        assert out.read_bytes() == whole
        assert asked == ([2, 3] if cut else [1, 2, 3])
        assert ("1 answers were in" in capsys.readouterr().err) == bool(cut)

    # A prompt that changed is asked anew, and so are all under other settings.
    file.write_text("\n".join([PROMPTS[0], PROMPTS[0], PROMPTS[2]]))
    asked.clear()
    assert run(folder, *arguments) == 0
    assert asked == [2] and out.read_bytes()[: len(whole)] == whole
    assert lines(out)[3]["row"] == 2 and lines(out)[3]["answer"] == expected[0][0]
    asked.clear()
    assert run(folder, *arguments, "--seed=6") == 0
    assert asked == [1, 2, 3]


def test_answers_are_written_as_they_come(folder, tmp_path, monkeypatch):
    file, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    file.write_text("\n".join(PROMPTS))
    answer, seen = Session.answer, []

    def watched(session, requests, rows=None):
        seen.append(len(lines(out)) if out.exists() else 0)
        return answer(session, requests, rows)

    monkeypatch.setattr(Session, "answer", watched)
    assert run(folder, f"--prompts={file}", f"--out={out}") == 0
    assert seen == [0, 1, 2]


def test_broken_lines_are_named_and_the_others_done(folder, expected, tmp_path, capsys):
    file, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    file.write_bytes(
        b'{"prompt": "Solve it: 1 2 3"}\n{"prompt": "cut\n{"prompt": " "}\n\n["prompt"]\n'
        b'{"prompt": "a <eos>"}\n{"prompt": "\xff"}\n{"prompt": "\\ud800"}\n'
        + json.dumps({"prompt": "1 2 " * 100}).encode()
        + b'\n{"messages": [{"role": "user"}]}\n{"prompt": "What is 2 + 2?"}\n'
    )
    assert run(folder, f"--prompts={file}", f"--out={out}") == 1
    said = capsys.readouterr()
    *named, _, last = said.err.splitlines()
    whys = {
        2: "not JSON: Unterminated string",
        3: "the prompt is empty",
        4: "the line is empty",
        5: "expected an object",
        6: "message 1: <eos> is a special token",
        7: "not UTF-8",
        8: "surrogate",
        9: "new tokens exceed the model's context of 200",
        10: "message 1: content must be text",
    }
    assert len(named) == len(whys)
    for line, (number, why) in zip(named, whys.items(), strict=True):
        assert line.startswith(f"line {number}: ") and why in line
    assert last == "error: 9 of 11 lines could not be asked"
    assert said.out == ""
    assert [(r["row"], r["answer"]) for r in lines(out)] == [
        (1, expected[0][0]),
        (11, expected[1][0]),
    ]


def test_trajectories_go_to_the_file(folder, tmp_path):
    out = tmp_path / "answers.jsonl"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}", "--trajectory") == 0
    [record] = lines(out)
    assert [len(canvas) for canvas in record["drafts"]] == record["steps"]
    assert split_turn(record["drafts"][0][-1]["text"]).answer.startswith(record["answer"][:5])
    assert all(step["entropy"] > 0 for canvas in record["drafts"] for step in canvas)


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

    def watched(session, tokens, mask, clock):
        clocks.append((session.mode, clock is not None))
        return generate_once(session, tokens, mask, clock)

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


def test_the_folders_defaults_and_flags(folder, tmp_path):
    model = Path(shutil.copytree(folder, tmp_path / "model"))
    given = {"max_denoising_steps": 7, "max_new_tokens": 20, "eos_token_id": [1, 106]}
    (model / "generation_config.json").write_text(json.dumps(given))
    values = define_flags()
    values(["main", f"--checkpoint={model}", "--max_steps=5", "--top_k=3", "--noearly_stop"])
    session = open_session(values)
    assert session.sampler == SamplerConfig(
        max_steps=5, max_new_tokens=20, stop_ids=(1, 106), early_stop=False
    )
    assert session.autoregressive == AutoregressiveConfig(20, top_k=3, stop_ids=(1, 106))


ERRORS = {
    "": "--checkpoint=DIR is needed",
    "--checkpoint=nowhere --prompt=a": "nowhere: no such folder",
    "{model} --prompt=a --prompts=b": "give one of --prompt and --prompts",
    "{model} --prompts=none.txt": "none.txt: No such file",
    "{model} --prompt=": "the prompt is empty",
    "{model} --prompt=<bos>": "<bos> is a special token",
    "{model} --prompt=a --max_new_tokens=300": "300 new tokens exceed the model's context of 200",
    "{model}": "the prompt is empty",  # nothing is piped in
    "{model} --prompt=a --max_steps=0": "max_steps must be at least 1",
    "{model} --prompt=a --stop_ids=1,x": "--stop_ids=1,x: expected numbers",
    "{model} --prompt=a --top_p=2 --mode=ar": "top_p must be within",
    "{model} --prompt=a --top_p=0.5": "--top_p is for --mode=ar",
    "{model} --prompt=a --mode=ar --max_steps=2": "--max_steps is for --mode=diffusion",
    "{model} --prompt=a --draft --batch_size=2": "--draft is for one prompt at a time",
    "{model} --prompt=a --trajectory": "--trajectory is for --out",
    "{model} --prompt=a --mode=both --out={out}": "--out is for one mode",
    "{model} --prompt=a --out={out}/deep.jsonl": "no such folder",
    "{model} --prompt=a --out={config}": "config.json, line 1: not an answer",
    "{model} --prompt=a --dtype=int8": "int8",
    "{model} --prompt=a --tokenizer=no.json": "no tokenizer at",
    "{model} --promt=a": "promt",
    "{model} --prompt=a --base=b": "has all its weights, so it takes no base",
}


@pytest.mark.parametrize("line", ERRORS)
def test_bad_input_is_one_line(line, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    out, config = tmp_path / "out.jsonl", tmp_path / "config.json"
    shutil.copy(folder / "config.json", config)
    filled = line.format(model=f"--checkpoint={folder}", out=out, config=config)
    assert command.main(["main", *filled.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and ERRORS[line] in said.err
    assert list(tmp_path.iterdir()) == [config]
    assert config.read_bytes() == (folder / "config.json").read_bytes()
