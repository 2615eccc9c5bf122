"""The task of graphs: its items, what is given, and what right and wrong answers score."""

import collections

import numpy as np
import pytest

from data.tasks.drawn_graphs import graph_key
from data.tasks.graph_answers import missing_edges, path_order, same_colors, shortest_length
from data.tasks.graphs import GraphItem, GraphsTask
from data.tasks.task import Replay, TaskError
from data.text.marked_text import MarkedText
from data.text.parts import Part
from data.text.tokenizer import Tokenizer

PATHS = GraphsTask(problem="path", vertices="8-9", degree=2.6, distance="3-4")
# A square A-B-C-D with the diagonal A-C, and E at C. A and B are coloured.
EDGES = np.array([[0, 1], [2, 1], [2, 3], [3, 0], [2, 0], [4, 2]])
COLORING = GraphItem(
    problem="coloring",
    vertices=5,
    edges=EDGES,
    answer=np.array([0, 1, 2, 1, 0]),
    kept=np.array([True, True, False, False, False]),
)
# From D to E, which is two edges away through C alone. D-A-C-E is a longer way.
PATH = GraphItem(
    problem="path",
    vertices=5,
    edges=EDGES,
    answer=np.array([0, 0, 2, 1, 3]),
    kept=np.array([False, False, False, True, True]),
)
COLORED = """A red 1 1 1 0
B 1 green 1 0 0
C 1 1 blue 1 1
D 1 0 1 green 0
E 0 0 1 0 red"""
PLACED = """A 0 1 1 1 0
B 1 0 1 0 0
C 1 1 2 1 1
D 1 0 1 1 0
E 0 0 1 0 3"""


def test_text_and_parts():
    task, lines = GraphsTask(), "AB\nCB\nCD\nDA\nCA\nEC"
    assert task.text(COLORING) == (f"Color with 3:\n{lines}", COLORED)
    assert task.text(PATH) == (f"Path:\n{lines}", PLACED)
    parts = task.parts(COLORING)
    assert parts[:3] == [Part("A", "kept"), Part(" red", "kept"), Part(" 1", "kept")]
    assert parts[6:8] == [Part("\nB", "kept"), Part(" 1", "kept")]
    assert [part.text for part in parts if part.kind == "open"] == [" blue", " green", " red"]
    parts = task.parts(PATH)
    assert [part.text for part in parts if part.kind == "open"] == [" 0", " 0", " 2"]
    assert {part.kind for part in parts} == {"kept", "open"}
    assert task.columns(COLORING)["given"].endswith("C 1 1? 1 1 D 1 0 1? 0 E 0 0 1 0?")
    assert task.columns(PATH)["given"].startswith("A? 1 1 1 0 B 1? 1 0 0 C 1 1? 1 1 D 1 0 1 1 0")


@pytest.mark.parametrize("task", [GraphsTask(), PATHS])
def test_every_open_part_is_one_token(task):
    tokenizer, test = Tokenizer.load(), task.open(0, None).test
    for i in range(20):
        parts = task.parts(test[i])
        assert "".join(part.text for part in parts) == task.text(test[i])[1]
        written = [part.text for part in parts if part.kind == "open"]
        assert written and all(len(tokenizer.encode(MarkedText(text))) == 1 for text in written)


def test_items_to_colour():
    task = GraphsTask(vertices="8-10", degree=4.5, given="2-3")
    train, _ = task.open(1, None)
    counts = collections.Counter()
    for i in range(200):
        item = train[i]
        n, edges = item["vertices"], item["edges"]
        assert len(edges) == len({frozenset(edge) for edge in edges.tolist()}) == round(n * 2.25)
        assert len(item["answer"]) == n
        assert same_colors(edges, item["answer"]) == 0
        counts[n, int(item["kept"].sum())] += 1
        assert task.score(item, task.text(item)[1]) == {"exact": 1, "valid": 1, "parts": 1}
    assert set(counts) == {(n, k) for n in (8, 9, 10) for k in (2, 3)}
    assert min(counts.values()) > 15


def test_items_with_a_path():
    train, lengths, taken = PATHS.open(1, None).train, collections.Counter(), set()
    for i in range(200):
        item = train[i]
        path = path_order(item["answer"].tolist())
        assert shortest_length(item["edges"], path[0], path[-1]) == len(path) - 1
        assert missing_edges(item["edges"], path) == 0
        assert set(np.flatnonzero(item["kept"])) == {path[0], path[-1]}
        assert PATHS.score(item, PATHS.text(item)[1]) == {"exact": 1, "valid": 1, "parts": 1}
        lengths[len(path) - 1] += 1
        taken.add((path[0] < path[-1], path[1] < path[2]))
    assert set(lengths) == {3, 4} and len(taken) == 4


def test_problems_are_equally_likely():
    task = GraphsTask(problem="coloring, path", vertices="12", degree=2.5)
    items = [task.open(0, None).train[i] for i in range(200)]
    assert 70 < sum(item["problem"] == "path" for item in items) < 130
    found = task.bins(items)["problem"]
    assert found["path"].tolist() == [item["problem"] == "path" for item in items]


@pytest.mark.parametrize("task", [GraphsTask(vertices="5-6", degree=2.5), PATHS])
def test_no_held_out_graph_is_trained_on(task):
    splits = [
        {graph_key(s[i]["edges"], s[i]["vertices"]) for i in range(60)} for s in task.open(0, None)
    ]
    assert all(splits) and not splits[0] & splits[1]
    assert task.open(0, None, test=False).test is None


@pytest.mark.parametrize(
    ("old", "new", "exact", "valid", "parts"),
    [
        ("", "", 1, 1, 1),
        ("0 red", "0 green", 1, 1, 1),  # another right answer
        ("0 red", "0 blue", 0, 1, 5 / 6),  # C-E
        ("A red", "A blue", 0, 1, 5 / 6),  # A-C, and A is red
        ("B 1 green", "B 1 blue", 0, 1, 5 / 6),  # B-C
        ("A red 1", "A red 0", 0, 0, 0),  # another graph
        ("A red 1", "A 1 red", 0, 0, 0),
        ("0 red", "0 1", 0, 0, 0),
        ("0 red", "0 black", 0, 0, 0),  # a fourth colour
        ("0 red", "red", 0, 0, 0),
        ("0 red", "0 red 0", 0, 0, 0),
        ("\nE 0 0 1 0 red", "", 0, 0, 0),  # no E
        ("\nE", "\nE 0 0 1 0 red\nE", 0, 0, 0),  # E twice
        ("E", "F", 0, 0, 0),  # there is no F
        ("\n", " ", 0, 0, 0),
        (COLORED, "\n".join(COLORED.split("\n")[::-1]) + "\n", 1, 1, 1),  # in another order
        (
            COLORED,
            COLORED.replace("red", "blue", 1).replace("C 1 1 blue", "C 1 1 red"),
            0,
            1,
            5 / 6,
        ),
        (COLORED, COLORED.translate(str.maketrans("ABCDE", "CBADE")), 0, 0, 0),
        (COLORED, "the answer:\n" + COLORED, 0, 0, 0),
        (COLORED, "", 0, 0, 0),
    ],
)
def test_scores_of_colourings(old, new, exact, valid, parts):
    scores = GraphsTask().score(COLORING, COLORED.replace(old, new) if old else COLORED)
    assert list(scores.values()) == pytest.approx([exact, valid, parts])


def test_a_given_colour_must_stay():
    swapped = COLORED.replace("red", "x").replace("green", "red").replace("x", "green")
    assert GraphsTask().score(COLORING, swapped) == {"exact": 0, "valid": 1, "parts": 1}


@pytest.mark.parametrize(
    ("places", "exact", "valid", "parts"),
    [
        ([0, 0, 2, 1, 3], 1, 1, 1),
        ([2, 0, 3, 1, 4], 0, 1, 1),  # D-A-C-E is too long
        ([0, 0, 2, 3, 1], 0, 1, 1),  # the wrong way
        ([1, 0, 2, 0, 3], 0, 1, 1),  # another start
        ([0, 3, 2, 1, 0], 0, 1, 1),  # another end
        ([2, 0, 0, 1, 3], 0, 1, 1 / 2),  # no edge A-E
        ([0, 0, 0, 1, 2], 0, 1, 0),
        ([0, 2, 0, 1, 3], 0, 1, 0),
        ([0, 0, 0, 1, 3], 0, 0, 0),  # no second place
        ([2, 0, 2, 1, 3], 0, 0, 0),  # two second places
        ([0, 0, 2, 0, 3], 0, 0, 0),
        ([0, 0, 0, 1, 0], 0, 0, 0),
        ([0, 0, 0, 0, 0], 0, 0, 0),
    ],
)
def test_scores_of_paths(places, exact, valid, parts):
    lines = [line.split() for line in PLACED.split("\n")]
    for i, place in enumerate(places):
        lines[i][1 + i] = str(place)
    answer = "\n".join(" ".join(line) for line in lines)
    assert list(PATHS.score(PATH, answer).values()) == pytest.approx([exact, valid, parts])
    assert PATHS.score(PATH, answer.replace("\n", " "))["valid"] == 0


def test_bins_count_the_right_answers():
    found = GraphsTask().bins([COLORING, {**COLORING, "kept": np.zeros(5, bool)}])
    # Two colours for E. With nothing given, all three colours can change places.
    assert found["right answers"]["2 to 9"].tolist() == [True, False]
    assert found["right answers"]["10 or more"].tolist() == [False, True]
    assert found["open"]["5 open"].tolist() == [False, True]
    assert PATHS.bins([PATH])["right answers"]["one"].tolist() == [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problem": ""}, "problem="),
        ({"problem": "clique"}, "problem=clique"),
        ({"problem": "coloring,"}, "problem=coloring,"),
        ({"vertices": "x"}, "vertices=x"),
        ({"vertices": "10-8"}, "vertices=10-8"),
        ({"vertices": "3"}, "from 4 to 26"),
        ({"vertices": "27"}, "from 4 to 26"),
        ({"vertices": "8-"}, "vertices=8-"),
        ({"colors": 1}, "colors=1"),
        ({"colors": 7}, "colors=7"),
        (
            {"vertices": "8-10", "degree": 9.0},
            "8 vertices then have 36 edges, and 1 to 21",
        ),
        ({"degree": -1.0}, "degree=-1"),
        ({"degree": float("nan")}, "degree=nan"),
        ({"given": "9"}, "given=9"),
        ({"given": "-1"}, "given=-1"),
        ({"problem": "path", "distance": "1"}, "distance=1"),
        ({"problem": "path", "distance": "8"}, "distance=8"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(TaskError, match=message):
        GraphsTask(**settings)


def test_a_distance_that_no_graph_has(monkeypatch):
    monkeypatch.setattr("data.tasks.graphs.REDRAWS", 50)
    train = GraphsTask(problem="path", vertices="6", degree=5.0, distance="4").open(0, None).train
    with pytest.raises(TaskError, match="distance=4"):
        train[0]


@pytest.mark.parametrize("item", [COLORING, PATH])
def test_a_picture(item):
    task, expected = GraphsTask(), []
    for part in task.parts(item):
        expected += ["\n", part.text[1:]] if part.text[0] == "\n" else [part.text]
    expected, size = [*expected, ""], len(expected) + 1  # the token that ends the answer
    other = [
        " blue" if item is COLORING else " 3" if piece == " 2" else piece for piece in expected
    ]
    replay = Replay(
        [expected, ["?"] * size, other, expected],
        np.ones((4, size), bool),
        np.ones((4, size), np.float32),
        expected,
        48,
    )
    assert task.picture(item, replay).startswith(b"\x89PNG")
    assert task.picture(item, replay._replace(expected=expected[:-2])) is None
    wrong = [piece.replace("red", "r") if item is COLORING else f"{piece}x" for piece in expected]
    assert task.picture(item, replay._replace(expected=wrong)) is None
    assert task.picture(item, replay._replace(accepted=np.ones((4, 9), bool))) is None
