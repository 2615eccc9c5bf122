"""The command on a tiny checkpoint: its output, and bad input in one line."""

import io
import shutil
import socket

import pytest

from sample import main as command
from tests.sample.asking import PROMPTS, run


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

    monkeypatch.setattr("sys.stdin", io.StringIO(f'"""\n{PROMPTS[0]}\n"""\n'))
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


ERRORS = {
    "": "--checkpoint=DIR is needed",
    "--checkpoint=nowhere --prompt=a": "nowhere: no such folder",
    "{model} --prompt=a --prompts=b": "give one of --prompt and --prompts",
    "{model} --prompts=none.txt": "none.txt: No such file",
    "{model} --prompt=": "the prompt is empty",
    "{model} --prompt=a --max_new_tokens=300": "300 new tokens exceed the model's context of 200",
    "{model}": "the prompt is empty",  # nothing is piped in
    "{model} --prompt=a --max_steps=0": "max_steps must be at least 1",
    "{model} --prompt=a --stop_ids=1,x": "--stop-ids=1,x: expected numbers",
    "{model} --prompt=a --top_p=2 --mode=ar": "top_p must be within",
    "{model} --prompt=a --top_p=0.5": "--top-p is for --mode=ar",
    "{model} --prompt=a --mode=ar --max_steps=2": "--max-steps is for --mode=diffusion",
    "{model} --prompt=a --draft --batch_size=2": "--draft is for one answer at a time",
    "{model} --prompt=a --trajectory": "--trajectory is for --out",
    "{model} --prompt=a --candidates=3": "--candidates is for --page",
    "{model} --prompt=a --page=": "--page= has no text",
    "{model} --prompt=a --page={out}/deep.html": "no such folder",
    "{model} --prompt=a --page={out} --mode=ar": "--page shows denoising",
    "{model} --prompt=a --page={out} --draft": "--draft and --page do not go together",
    "{model} --prompt=a --mode=both --out={out}": "--out is for one mode",
    "{model} --prompt=a --out={out}/deep.jsonl": "no such folder",
    "{model} --prompt=a --out={config}": "config.json, line 1: not an answer",
    "{model} --prompt=a --stop=": "--stop= has no text",
    "{model} --prompt=a --stop=4<turn|>": "<turn|> is a special token",
    "{model} --prompt=a --mode=ar --temperature=0 --num-samples=2": "all samples would be equal",
    "{model} --prompt=a --mode=both --temperature=0 --num-samples=2": "all samples would be equal",
    "{model} --prompt=a --out=": "--out= has no text",
    "{model} --serve=8000 --prompt=a": "--prompt and --serve do not go together",
    "{model} --serve=8000 --page={out}": "--page and --serve do not go together",
    "{model} --serve=8000 --num-samples=2": "--num-samples and --serve do not go together",
    "{model} --serve=8000 --mode=ar": "--serve is for --mode=diffusion",
    "{model} --serve=70000": "70000",
    "{model} --serve=web": "expected a whole number",
    "{model} --serve={taken}": "address already in use: choose another port or host",
    "{model} --serve=0 --host=no.such.host.invalid": "there is no such host",
    "{model} --serve=0 --host=192.0.2.1": "cannot assign requested address",
    "{model} --serve=0 --host=": "--host= has no text",
    "{model} --prompt=a --host=localhost": "--host is for --serve=PORT",
    "--checkpoint=nowhere --serve=0": "nowhere: no such folder",
    "{model} --prompts=": "--prompts= has no text",
    "{model} --prompt=a --stop=\udcff": "--stop has bytes that are not UTF-8",
    "{model} --prompt=a --stop-ids=1,1024": "--stop-ids=1024 is no token",
    "{model} --prompt=a --out=-": "--out needs the name of a file",
    "{model} --prompts=-": "/dev/stdin: the file is empty",
    "{model} --prompt=a --num-samples=0": "--num-samples=0",
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
    model = f"--checkpoint={folder}"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        filled = line.format(model=model, out=out, config=config, taken=taken)
        assert command.main(["main", *filled.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and ERRORS[line] in said.err
    assert list(tmp_path.iterdir()) == [config]
    assert config.read_bytes() == (folder / "config.json").read_bytes()
