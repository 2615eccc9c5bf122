"""The base mixture: answers about words, shares, no Sudoku in it, and the task."""

from collections import Counter

import pytest

from data.tasks import base_mixture
from data.tasks.base_mixture import FILLED, BaseMixtureTask, MixtureSource
from data.tasks.grid_tasks import GRID_TASKS
from data.text.packing import pack
from data.text.tokenizer import Tokenizer
from tests.data.tasks.units import UNITS, members
from tests.data.text.messages import chat_answer, chat_prompt

WORD_ANSWERS = {
    "copy_words": lambda m: m,
    "reverse_words": lambda m: m[::-1],
    "count_words": lambda m: list(str(len(m))),
    "sort_digits": sorted,
    "add": lambda m: list(str(sum(numbers(m)))),
    "compare": lambda m: list(str(max(numbers(m)))),
}
LETTER_ANSWERS = {
    "copy_letters": lambda m: m[0],
    "reverse_letters": lambda m: m[0][::-1],
    "sort_letters": lambda m: "".join(sorted(m[0])),
    "pick_letters": lambda m: "".join(letter for letter in m[2] if letter in m[0]),
    "count_letters": lambda m: " ".join(str(sum(map(m[2].count, m[0])))),
}


def numbers(material):
    return [int(text.replace(" ", "")) for text in " ".join(material).split("and")]


def test_word_and_letter_answers():
    source, done = MixtureSource(6, shares=()), Counter()
    for i in range(500):
        item = source[i]
        material = item["prompt"].split(":\n")[1].split()
        if item["task"] in LETTER_ANSWERS:
            answer = LETTER_ANSWERS[item["task"]](material)
        else:
            answer = " ".join(WORD_ANSWERS[item["task"]](material))
        assert item["answer"] == answer, item
        done[item["task"]] += 1
    assert set(done) == WORD_ANSWERS.keys() | LETTER_ANSWERS.keys()


def test_an_item_depends_on_seed_and_index_only():
    first, second = MixtureSource(7), MixtureSource(7, size=100)
    forward = [first[i] for i in range(100)]
    assert [second[i] for i in reversed(range(100))] == forward[::-1]
    assert sum(MixtureSource(8)[i] == forward[i] for i in range(100)) < 3
    assert len({item["prompt"] for item in forward}) > 95
    for index in (-1, 100):
        with pytest.raises(IndexError, match="of a source of 100"):
            second[index]


def test_errors():
    with pytest.raises(ValueError, match="more than 1"):
        MixtureSource(0, shares=((3, 0.8), (2, 0.3)))
    with pytest.raises(ValueError, match="box sizes are"):
        MixtureSource(0, shares=((4, 0.5),))


def test_mixture():
    source = MixtureSource(9)
    count = Counter(source[i]["task"] for i in range(4000))
    large = sum(c for name, c in count.items() if "9x9" in name)
    fills = sum(count[f"{name}_9x9"] for name in ("fill", "fill_every", "complete"))
    assert abs(large / 4000 - 0.75) < 0.03
    assert abs(sum(c for name, c in count.items() if "4x4" in name) / 4000 - 0.1) < 0.02
    assert abs(fills / large - 0.25) < 0.03
    assert sum(task[0] for task in GRID_TASKS.values()) == 100


def sudokus(source, count):
    """The number of grids with enough digits for a puzzle or a solution, and none repeated."""
    found = 0
    for i in range(count):
        item = source[i]
        if "x" not in item["task"]:
            continue
        box = 2 if "4x4" in item["task"] else 3
        cells = [[members(box, u, k) for k in range(box * box)] for u in UNITS]
        for text in (item["prompt"].split(":\n")[1], item["answer"]):
            grid = [int(d) for d in text.split()]
            if len(grid) < box**4 or sum(d > 0 for d in grid) < (4 if box == 2 else 17):
                continue
            units = [[grid[i] for i in unit if grid[i]] for kind in cells for unit in kind]
            found += all(len(unit) == len(set(unit)) for unit in units)
    return found


@pytest.fixture
def fast_members(monkeypatch):
    cache = {}
    slow = members

    def fast(*key):
        if key not in cache:
            cache[key] = slow(*key)
        return cache[key]

    monkeypatch.setitem(globals(), "members", fast)


def test_no_sudoku(fast_members, monkeypatch):
    assert sudokus(MixtureSource(10), 5000) == 0
    assert sudokus(MixtureSource(10, shares=((2, 1.0),)), 2000) == 0
    # Without the check such grids do occur.
    monkeypatch.setattr(base_mixture, "looks_like_sudoku", lambda board, grid: False)
    assert sudokus(MixtureSource(10, shares=((2, 1.0),)), 300) > 0
    assert sudokus(MixtureSource(10), 5000) > 0


def test_everything_fits_the_base_models_row():
    source, tok = MixtureSource(11), Tokenizer.load()
    for i in range(3000):
        user, answer = BaseMixtureTask().text(source[i])
        prompt, reply = tok.encode(chat_prompt(user)), tok.encode(chat_answer(answer))
        assert len(reply) <= 90
        assert pack(prompt, reply, 116, 90, 1, tok.eos_id, tok.pad_id)["num_canvases"] == 1


def test_the_task_trains_on_even_seeds_and_holds_odd_ones_out():
    task = BaseMixtureTask()
    splits = task.open(4, check=None)
    train, test = ([source[i] for i in range(60)] for source in splits)
    assert train == [MixtureSource(8)[i] for i in range(60)]
    assert test == [MixtureSource(9)[i] for i in range(60)]
    assert len(splits.train) == len(splits.test) == 2**30
    assert task.open(4, None, test=False).test is None
    assert task.held_out(4, [5], None) == test[:5]
    with pytest.raises(
        ValueError, match="task base_mixture has one group of items: give one number, not 2"
    ):
        task.held_out(4, [5, 5], None)


def test_bins_are_sizes_and_kinds_of_items():
    task = BaseMixtureTask()
    items = task.held_out(0, [200], None)
    sizes, kinds = (task.bins(items)[title] for title in ("size", "kind"))
    assert list(sizes) == ["9x9 grids", "4x4 grids", "words and letters"]
    assert (sum(inside.astype(int) for inside in sizes.values()) == 1).all()
    for i, item in enumerate(items):
        size = next((s for s in ("9x9", "4x4") if item["task"].endswith(s)), None)
        assert sizes[f"{size} grids" if size else "words and letters"][i]
    assert list(kinds) == sorted({item["task"] for item in items})
    for name, inside in kinds.items():
        assert inside.dtype == bool
        assert inside.tolist() == [item["task"] == name for item in items]


def test_a_share_of_the_grids_is_given_on_the_canvas():
    task, count = BaseMixtureTask(on_canvas=0.5), Counter()
    train = task.open(5, None).train
    for i in range(1500):
        item = train[i]
        name = item["task"].split("_")[0]
        filled = name in FILLED and not item["task"].startswith("fill_every")
        count[filled, "given" in item] += 1
        parts = task.parts(item)
        if "given" not in item:
            assert parts == []
            continue
        # The canvas holds the digits that are given and the line ends, and the prompt no grid.
        assert item["task"].endswith("_on_canvas") and "\n" not in item["prompt"]
        assert "".join(part.text for part in parts) == item["answer"]
        shown = [part.text if part.kind == "kept" else part.text[:-1] + "0" for part in parts]
        assert "".join(shown) == item["given"]
        assert {part.kind for part in parts} <= {"kept", "open"}
    assert count[False, True] == 0 and count[False, False] > 300
    assert abs(count[True, True] / (count[True, True] + count[True, False]) - 0.5) < 0.06


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=f"on_canvas={share}: give a share from 0 to 1"):
        BaseMixtureTask(on_canvas=share)


def test_without_a_share_nothing_is_given():
    task = BaseMixtureTask()
    items = [task.open(5, None).train[i] for i in range(200)]
    assert all(task.parts(item) is None and "given" not in item for item in items)
