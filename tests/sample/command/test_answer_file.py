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
from sample.command.checkpoint_id import CheckpointId
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
        before = "answers were in" in capsys.readouterr().err
        assert before == (place == moved)
    first, second = lines(out)
    assert first["checkpoint"] == str(folder) and second["checkpoint"] == str(other)
    assert first["fingerprint"] != second["fingerprint"] and first["answer"] == expected[0][0]
    assert first["answer"] != second["answer"]


def test_answers_without_a_checkpoint_stay_and_do_not_count(folder, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    old = json.dumps({"row": None, "checksum": "ab", "answer": "old"}) + "\n"
    out.write_text(old)
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}") == 0
    assert "1 answers in" in (said := capsys.readouterr().err) and "asked again" in said
    assert "answers were in" not in said and said.count("\n") == 2
    assert out.read_text().startswith(old) and len(lines(out)) == 2


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


class Call(NamedTuple):
    """Stands for data.text.tool_calls.ToolCall."""

    function: dict

    def record(self) -> dict:
        return {"type": "function", "function": self.function}


def test_tool_calls_are_written_as_openai_has_them(tmp_path):
    function = {"name": "clock", "arguments": {"zone": "Köln"}}
    turn = ModelTurn("", "", (Call(function),))
    request = Request(1, [2, 3], "ab", CheckpointId("runs/a", "cd"), sample=2)
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


def test_two_runs_on_one_file_lose_no_answer(tmp_path):
    """The second one to write would cut the other's answers off; it is refused instead."""
    path = tmp_path / "answers.jsonl"
    first, second = AnswerFile(path), AnswerFile(path)
    answer = Answer(Request(1, [5], "abc"), ModelTurn("", "4", ()), [1], [1], "stop")
    first.write(answer)
    before = path.read_bytes()
    with pytest.raises(OSError, match="another program writes here too"):
        second.write(answer)
    assert path.read_bytes() == before
    first.write(answer)
    assert path.read_bytes() == before * 2
