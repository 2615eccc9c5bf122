"""A file of answers: written answer by answer, and gone on with."""

import json
import shutil
from typing import NamedTuple

import pytest
from safetensors.numpy import load_file, save_file

from data.text.chat import ModelTurn, split_turn
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from sample.command import session as sessions
from sample.command.answer import Answer, Request
from sample.command.answer_file import AnswerFile
from sample.command.checkpoint_id import LENGTH, CheckpointId
from sample.command.prompt_rows import read_rows
from sample.command.session import Session
from tests.sample.asking import NEW, PROMPTS, lines, run


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
        assert ("1 answer found in" in capsys.readouterr().err) == bool(cut)

    # A prompt that changed is asked anew, and so are all under other settings.
    file.write_text("\n".join([PROMPTS[0], PROMPTS[0], PROMPTS[2]]))
    asked.clear()
    assert run(folder, *arguments) == 0
    assert asked == [2] and out.read_bytes()[: len(whole)] == whole
    assert lines(out)[3]["row"] == 2 and lines(out)[3]["answer"] == expected[0][0]
    asked.clear()
    assert run(folder, *arguments, "--seed=6") == 0
    assert asked == [1, 2, 3]


def test_another_checkpoint_is_asked_again(folder, expected, tmp_path, capsys):
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["model.decoder.norm.weight"] *= -1
    save_file(tensors, other / "model.safetensors")
    moved = shutil.copytree(folder, tmp_path / "moved")
    out = tmp_path / "answers.jsonl"
    arguments = (f"--prompt={PROMPTS[0]}", f"--out={out}")
    for place in (folder, other, moved):
        assert run(place, *arguments) == 0
        before = "answer found in" in capsys.readouterr().err
        assert before == (place == moved)
    first, second = lines(out)
    assert first["checkpoint"] == str(folder) and second["checkpoint"] == str(other)
    assert first["fingerprint"] != second["fingerprint"] and first["answer"] == expected[0][0]
    assert first["answer"] != second["answer"]


def test_answers_of_older_versions_stay_and_do_not_count(folder, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    old = {"row": None, "checksum": "ab", "answer": "old"}
    text = "".join(f"{json.dumps(r)}\n" for r in (old, old | {"fingerprint": "0123456789abcdef"}))
    out.write_text(text)
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}") == 0
    said = capsys.readouterr().err
    assert "2 answers of an older version" in said and "asked again" in said
    assert "found in" not in said and said.count("\n") == 3
    assert out.read_text().startswith(text) and len(lines(out)) == 3


def test_how_an_answer_ended_and_its_tokens(folder, expected, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}") == 0
    generate = sessions.generate

    def stopping(*arguments, **options):
        found = generate(*arguments, **options)
        found.tokens[0, NEW - 1] = 106  # <turn|>, in place of the last token
        return found

    monkeypatch.setattr(sessions, "generate", stopping)
    out.rename(tmp_path / "first.jsonl")
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}") == 0
    cut, stopped = lines(tmp_path / "first.jsonl") + lines(out)
    assert (cut["finish_reason"], stopped["finish_reason"]) == ("length", "stop")
    assert cut["generated_tokens"] == stopped["generated_tokens"] == NEW == expected[0][1]
    assert cut["prompt_tokens"] == stopped["prompt_tokens"] > 10
    assert cut["sample"] == 0 and cut["tool_calls"] == []


def answer_to(row: int, checksum: str = "ab") -> Answer:
    request = Request(row, [5], checksum, CheckpointId("runs/a", "c" * LENGTH))
    return Answer(request, ModelTurn("", "4", ()), [1], [1], "stop")


def test_a_whole_last_line_is_an_answer_and_a_half_one_goes(tmp_path):
    path = tmp_path / "answers.jsonl"
    AnswerFile(path).write(answer_to(1))
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip())  # an editor that leaves out the last line end
    file = AnswerFile(path)
    assert answer_to(1).request in file
    file.write(answer_to(2, "cd"))
    assert path.read_bytes().startswith(whole) and len(lines(path)) == 2
    for end, mended in ((whole[:20], b""), (whole.rstrip(), whole), (b"", b"")):
        path.write_bytes(whole + b"\n \r\n" + end)  # with blank lines
        file = AnswerFile(path)
        assert answer_to(1).request in file
        file.close()
        assert path.read_bytes() == whole + b"\n \r\n" + mended


def test_rows_may_move_and_equal_rows_have_an_answer_each(folder, tmp_path, capsys):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    arguments = (f"--prompts={prompts}", f"--out={out}")
    prompts.write_text(f"{PROMPTS[0]}\n{PROMPTS[0]}\n")
    assert run(folder, *arguments) == 0
    assert "2 answers cut off: --max-new-tokens=N" in capsys.readouterr().err
    prompts.write_text(f"{PROMPTS[1]}\n" + f"{PROMPTS[0]}\n" * 3)
    assert run(folder, *arguments) == 0
    assert f"2 answers found in {out}, 2 of them with another row" in capsys.readouterr().err
    assert [record["row"] for record in lines(out)] == [1, 2, 1, 4]
    assert run(folder, *arguments) == 0
    assert "4 answers found in" in capsys.readouterr().err and len(lines(out)) == 4


class Call(NamedTuple):
    """Stands for data.text.tool_calls.ToolCall."""

    function: dict

    def record(self) -> dict:
        return {"type": "function", "function": self.function}


def test_tool_calls_are_written_as_openai_has_them(tmp_path):
    function = {"name": "clock", "arguments": {"zone": "Köln"}}
    turn = ModelTurn("", "", (Call(function),))
    request = Request(1, [2, 3], "ab", CheckpointId("runs/a", "c" * LENGTH), sample=2)
    file = AnswerFile(tmp_path / "answers.jsonl")
    file.write(Answer(request, turn, [4], [5], "tool_calls"))
    [record] = lines(tmp_path / "answers.jsonl")
    assert record["tool_calls"] == [{"type": "function", "function": function}]
    assert record == record | {"row": 1, "sample": 2, "prompt_tokens": 2, "generated_tokens": 5}
    assert record["finish_reason"] == "tool_calls"
    again = AnswerFile(tmp_path / "answers.jsonl")
    assert request in again and request._replace(sample=1) not in again

    # They are accepted as the history of the next request.
    said = {"role": "assistant", "content": record["answer"], "tool_calls": record["tool_calls"]}
    history = [{"role": "user", "content": "Late?"}, said, {"role": "tool", "content": "noon"}]
    file = tmp_path / "next.jsonl"
    file.write_text(json.dumps({"messages": history}))
    source = (
        "{% for call in messages[1].tool_calls %}{{ call.function.name }} in "
        "{{ call.function.arguments.zone }}: {{ messages[2].content }}{% endfor %}"
    )
    tokenizer, [row] = Tokenizer.load(), read_rows(file)
    asked = tokenizer.encode(ChatTemplate(tokenizer, source).render(row.messages))
    assert tokenizer.decode(asked) == "clock in Köln: noon"


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


def test_trajectories_go_to_the_file(folder, tmp_path):
    out = tmp_path / "answers.jsonl"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}", "--trajectory") == 0
    [record] = lines(out)
    assert [len(canvas) for canvas in record["drafts"]] == record["steps"]
    assert split_turn(record["drafts"][0][-1]["text"]).answer.startswith(record["answer"][:5])
    assert all(step["entropy"] > 0 for canvas in record["drafts"] for step in canvas)


@pytest.mark.parametrize("line", ['{"row": 1, "theirs": 2}', '{"row": 1}', "{}", "[1]", "text"])
def test_a_last_line_of_another_file_is_not_cut_off(line, tmp_path):
    path = tmp_path / "theirs.jsonl"
    path.write_text(line)  # without a line end
    with pytest.raises(ValueError, match="line 1: not an answer: choose a new file"):
        AnswerFile(path)
    assert path.read_text() == line


def test_two_runs_on_one_file_lose_no_answer(tmp_path):
    """The second one to write would cut the other's answers off; it is refused instead."""
    path = tmp_path / "answers.jsonl"
    first, second = AnswerFile(path), AnswerFile(path)
    answer = answer_to(1)
    first.write(answer)
    before = path.read_bytes()
    with pytest.raises(OSError, match="another program writes here too"):
        second.write(answer)
    assert path.read_bytes() == before
    first.write(answer)
    assert path.read_bytes() == before * 2
