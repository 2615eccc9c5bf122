"""sample.main --page: the page has the answers, token by token, in both modes."""

import json

from sample.page.check import unpack
from sample.page.columns import unpacked_ids
from sample.page.read import read_records
from tests.sample.asking import CANVAS, NEW, PROMPTS, lines, run


def test_a_page_has_the_answers_of_both_modes(folder, expected, tmp_path, capsys):
    page = tmp_path / "page.html"
    flags = f"--page={page}", "--candidates=2", "--temperature=0"
    assert run(folder, f"--prompt={PROMPTS[0]}", "--mode=both", *flags) == 0
    assert f"wrote {page} with 1 answer\n" in capsys.readouterr().err
    [record] = read_records(page)
    assert record["canvas_size"] == CANVAS and record["candidates"] == 2
    assert PROMPTS[0] in record["prompt"] and record["model"] == str(folder)
    emitted = [
        record["tokens"][i]
        for part, seen in zip(record["canvases"], unpack(record), strict=True)
        for i in seen.best[-1][: part["valid"]]
    ]
    count = expected[0][1]

    assert len(emitted) == count == record["figures"]["tokens"]
    other = record["left_to_right"]
    assert 0 < len(unpacked_ids(other["ids"], record["id_bytes"], len(record["tokens"]))) <= NEW
    assert other["seconds"] > 0 < record["figures"]["seconds"]


def test_a_page_changes_no_answer_and_shows_kept_tokens(folder, expected, tmp_path, capsys):
    page, out = tmp_path / "page.html", tmp_path / "answers.jsonl"
    flags = f"--page={page}", "--candidates=2"
    assert run(folder, f"--prompt={PROMPTS[0]}", *flags, f"--out={out}") == 0
    [answer] = lines(out)
    assert answer["answer"] == expected[0][0] and "drafts" not in answer
    # The page is no part of what was asked: the file has the answer, and so nothing is answered.
    page.unlink()
    assert run(folder, f"--prompt={PROMPTS[0]}", *flags, f"--out={out}") == 0
    assert f"{page} is not written: nothing was answered" in capsys.readouterr().err
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"fill": "a<fill:3> b"}))
    assert run(folder, f"--prompts={prompts}", *flags) == 0
    [record] = read_records(page)
    assert unpack(record)[0].kept.tolist().count(False) == 3
