"""A file of answers: written answer by answer, and gone on with."""

from data.text.chat import split_turn
from sample.command.session import Session
from tests.sample.asking import PROMPTS, lines, run


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


def test_trajectories_go_to_the_file(folder, tmp_path):
    out = tmp_path / "answers.jsonl"
    assert run(folder, f"--prompt={PROMPTS[0]}", f"--out={out}", "--trajectory") == 0
    [record] = lines(out)
    assert [len(canvas) for canvas in record["drafts"]] == record["steps"]
    assert split_turn(record["drafts"][0][-1]["text"]).answer.startswith(record["answer"][:5])
    assert all(step["entropy"] > 0 for canvas in record["drafts"] for step in canvas)
