"""The conversations task: splits of a file, errors, files read in order, and scores."""

import json
import re

import numpy as np
import pytest

from data.pipeline import Packer, make_dataset
from data.tasks.conversations import ConversationsTask
from data.tasks.registry import make_task
from data.tasks.task import TaskError
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation, parse_conversation, split_of
from data.text.tokenizer import Tokenizer
from tests.data.text.messages import AGAIN, CALL, MODEL, RESULT, USER, question, write_lines


@pytest.fixture(scope="module")
def packer():
    return Packer(ChatTemplate(Tokenizer.load()), prompt_length=32, canvas_size=8, num_canvases=2)


def parse(line):
    return parse_conversation(json.dumps(line).encode())


def test_the_splits_are_those_of_the_file(tmp_path, packer):
    path = write_lines(tmp_path / "a.jsonl", map(question, range(60)))
    task = ConversationsTask(str(path))
    splits = task.open(3, packer)
    for split, source in zip(("train", "test"), splits, strict=True):
        expected = [c for c in map(parse, map(question, range(60))) if split_of(c) == split]
        assert [source[i] for i in range(len(source))] == expected
        assert len(expected) > 2
    # The seed does not matter.
    assert task.open(4, packer).test.places.tolist() == splits.test.places.tolist()
    assert task.open(3, packer, test=False).test is None
    assert task.held_out(3, [2], packer) == [splits.test[0], splits.test[1]]
    with pytest.raises(ValueError, match=f"only {len(splits.test)} conversations are held out"):
        task.held_out(3, [60], packer)


def test_batches_of_a_file_resume(tmp_path, packer):
    task = ConversationsTask(str(write_lines(tmp_path / "a.jsonl", map(question, range(40)))))
    splits = task.open(0, packer)
    assert len(splits.train) + len(splits.test) == 40

    def row(item):
        return packer(task.conversation(item))

    def batches():
        return iter(make_dataset(splits.train, row, batch_size=8, seed=1))

    first = batches()
    before = [next(first) for _ in range(6)]  # into the second epoch
    state = first.get_state()
    after = [next(first)["tokens"] for _ in range(4)]
    second = batches()
    second.set_state(state)
    for expected in after:
        np.testing.assert_array_equal(next(second)["tokens"], expected)
    tokenizer, tokens = packer.template.tokenizer, before[0]["tokens"][0]
    text = tokenizer.decode(tokens, skip_special=False)
    assert re.match(
        r"<bos><\|turn>user\nCopy: (.*)<turn\|>\n<\|turn>model\n\1<turn\|>(<eos>)+", text
    )


@pytest.mark.parametrize(
    ("count", "path", "error"),
    [
        (3, None, "of 3 conversations none fell to the 10% held out: give more conversations, or "),
        (0, "", "task conversations needs a file: --config.data.path=FILE.jsonl"),
    ],
)
def test_a_split_that_is_empty_and_no_file(tmp_path, packer, count, path, error):
    kept = [q for q in map(question, range(40)) if split_of(parse(q)) == "train"]
    file = write_lines(tmp_path / "a.jsonl", kept[:count])
    task = ConversationsTask(str(file) if path is None else path)
    with pytest.raises(TaskError, match=re.escape(error)):
        task.open(0, packer)
    if count:
        assert task.open(0, packer, test=False).test is None


def test_a_file_whose_conversations_are_all_held_out(tmp_path, packer):
    held = [q for q in map(question, range(40)) if split_of(parse(q)) == "test"]
    task = ConversationsTask(str(write_lines(tmp_path / "a.jsonl", held)))
    with pytest.raises(TaskError, match=r"a\.jsonl: every conversation is held out: give more"):
        task.open(0, packer)
    assert len(task.read(task.path, None, packer)) == len(held)


@pytest.mark.parametrize("limit", [None, 1, 30, 100])
def test_a_file_is_read_in_its_order(tmp_path, packer, limit):
    lines = list(map(question, range(40)))
    path = write_lines(tmp_path / "a.jsonl", lines)
    items = ConversationsTask().read(str(path), limit, packer)
    assert items == [parse(line) for line in lines[:limit]]
    assert len({split_of(item) for item in items}) == (1 if limit == 1 else 2)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"prompt": "a"}, "no answer: the last message is the user's"),
        ({"prompt": "1 " * 40, "response": "4"}, r"prompt of \d+ tokens does not fit"),
    ],
)
def test_a_bad_line_of_a_file_is_named(tmp_path, packer, line, error):
    path = write_lines(tmp_path / "a.jsonl", [question(1), line])
    for use in (
        lambda: ConversationsTask(str(path)).open(0, packer),
        lambda: ConversationsTask().read(str(path), 1, packer),
    ):
        with pytest.raises(ValueError, match=rf"1 of 2 records .* \(line 2: {error}"):
            use()


def test_records_that_are_left_out(tmp_path, packer, capsys):
    rows = list(map(question, range(40)))
    path = write_lines(tmp_path / "a.json", [*rows[:20], {"prompt": "a"}, *rows[20:]])
    task = ConversationsTask(str(path), on_error="skip")
    splits = task.open(0, packer)
    assert "1 of 41 records is left out (on_error=skip)\n  line 21: no" in capsys.readouterr().err
    items = task.read(str(path), None, packer)
    assert items == [parse(row) for row in rows]
    for split, source in splits._asdict().items():
        found = [source[i] for i in range(len(source))]
        assert found == [item for item in items if split_of(item) == split]
    assert make_task("conversations", {"on_error": "skip"}).on_error == "skip"
    with pytest.raises(ValueError, match="on_error must be 'stop' or 'skip', not 'ignore'"):
        make_task("conversations", {"on_error": "ignore"}, "data.")


def test_what_is_asked_and_how_it_is_scored():
    task = ConversationsTask()
    assert not task.scored
    item = conversation("2 + 2?", "It is 4.", system="Be brief.")
    assert task.text(item) == ("2 + 2?", "It is 4.")
    assert task.conversation(item) is item
    for answer, scores in [
        ("It is 4.", (1, 1, 1)),
        ("\nIt is 4. ", (1, 1, 1)),
        ("It was 4.", (0, 1, 2 / 3)),
        ("4.", (0, 1, 0)),
        (" \n", (0, 0, 0)),
    ]:
        assert task.score(item, answer) == dict(zip(task.measures, scores, strict=True))
    longer = parse({"messages": [USER, MODEL, AGAIN, {"role": "assistant", "content": "Yes."}]})
    assert task.text(longer) == ("Sure?", "Yes.")
    # A tool call has no content; neither has an answer that is one.
    called = parse({"messages": [USER, CALL, RESULT, MODEL]})
    assert task.text(called) == ("noon", "4")
    assert task.text(parse({"messages": [USER, CALL]})) == ("2 + 2?", "")
    called = parse({"messages": [USER, CALL, RESULT | {"content": {"time": "noon"}}, MODEL]})
    assert task.text(called) == ('{"time": "noon"}', "4")
