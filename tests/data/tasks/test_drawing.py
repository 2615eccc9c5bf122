"""Views of answers: they are JSON, and their demands say what the tasks say."""

import json

import numpy as np
import pytest

from data.tasks.amino_acids import demands_met
from data.tasks.drawing import circle
from data.tasks.graphs import GraphsTask
from data.tasks.peptides import PeptidesTask


def texts_of(task, item):
    """The answer's parts as tokens, which they are in the shipped tokenizer."""
    return [token for part in task.parts(item) for token in split(part.text)]


def split(text):
    """A line end and a name are two tokens, and so is a budget more than one."""
    return ["\n", *split(text[1:])] if text[:1] == "\n" else [text] if text[:1] == " " else [*text]


@pytest.mark.parametrize("problem", ["coloring", "path"])
def test_a_graph_has_its_edges_and_its_marks(problem):
    task = GraphsTask(problem=problem)
    item = task.open(0, lambda c: None).test[0]
    texts = texts_of(task, item)
    view = task.view(item, texts)
    assert json.loads(json.dumps(view)) == view and view["name"] == "Graph"
    assert view["links"] == item["edges"].tolist() and view["names"] == [*"ABCDEFGH"]
    marks = [texts[i].strip() for i in view["cells"]]
    if problem == "coloring":
        groups = {text: group["color"] for group in view["groups"] for text in group["texts"]}
        assert groups == {color: color for color in ("red", "green", "blue")}
        assert set(marks) <= groups.keys() and view["demands"][0]["kind"] == "differ"
    else:
        assert marks == [str(place) for place in item["answer"]]
        title = "steps of the path along edges"
        assert view["demands"] == [
            {"kind": "follow", "title": title, "is": max(map(int, marks)) - 1}
        ]
    assert task.view(item, [*texts[:1], "re", *texts[2:]]) is None


def test_a_peptide_has_its_residues_and_demands():
    task = PeptidesTask()
    items = task.open(0, lambda c: None).test
    for item in (items[i] for i in range(20)):
        texts = texts_of(task, item)
        view = task.view(item, texts)
        assert json.loads(json.dumps(view)) == view
        residues = [texts[i] for i in view["cells"]]
        assert "".join(residues) == item.residues and view["places"][9] == [1, 1]
        groups = {letter: i for i, g in enumerate(view["groups"]) for letter in g["texts"]}
        assert len(groups) == 20
        *sums, motif = view["demands"]
        for demand, name in zip(sums, ("length", "charge", "hydrophobic"), strict=True):
            now = sum(demand["weights"][groups[residue]] for residue in residues)
            assert now == demand["is"], name
            wrong = sum(demand["weights"][groups[residue]] for residue in ["K", "A", *residues[2:]])
            changed = "KA" + item.residues[2:]
            assert (wrong == demand["is"]) == demands_met(item, changed)[name]
        width = len(motif["texts"])
        windows = (residues[i : i + width] for i in range(len(residues) - width + 1))
        assert any(all(r in m for r, m in zip(w, motif["texts"], strict=True)) for w in windows)
        assert task.view(item, texts[1:]) is not None and task.view(item, texts[:-1]) is None


@pytest.mark.parametrize("count", [4, 8, 26])
def test_cells_on_a_circle_do_not_touch_and_stay_inside(count):
    (width, height), places = circle(count)
    corners = np.array(places)
    apart = np.linalg.norm(corners[:, None] - corners, axis=-1) + 9 * np.eye(count)
    assert apart.min() > 1.15 and corners.min() >= 0
    assert corners[:, 0].max() + 1 <= width + 1e-6 and corners[:, 1].max() + 1 <= height + 1e-6
