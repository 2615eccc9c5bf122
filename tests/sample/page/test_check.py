"""A record that is broken is refused in one line that names the field."""

import copy
import json

import pytest

from sample.page.check import check_record, is_record
from tests.sample.page.recorded import DRAWN, VIEW, random_record

RECORD = random_record() | {"view": {**DRAWN, "clues": [0], "right": [*"abcdef"]}}
MISSING = object()
TEXTS = {"steps": 1, "valid": 1, "mean_entropy": [0], "texts": ["a"], "accepted_counts": [1]}


def broken(path: str, value: object) -> dict:
    """The record with another value at a path such as canvases.0.entropy."""
    record = copy.deepcopy(RECORD)
    *above, last = path.split(".")
    at = record
    for name in above:
        at = at[int(name)] if name.isdecimal() else at[name]
    if value is MISSING:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return record


BROKEN = [
    ("format", "denoise", "format is not 'denoising'"),
    ("version", 3, "version 3: this program reads 1 and 2"),
    ("version", True, "version: expected a whole number"),
    ("title", MISSING, "title is missing"),
    ("prompt", 5, "prompt: expected a text, found a number"),
    ("tokens", {}, "tokens: expected a list, found an object"),
    ("tokens.3", None, "tokens[3]: expected a text"),
    ("id_bytes", 4, "id_bytes: expected a whole number from 1 to 3"),
    ("canvas_size", 0, "canvas_size: expected a whole number from 1"),
    ("canvas_size", 13, "canvases[0].entropy: expected 78 bytes, found 72"),
    ("max_steps", 1.5, "max_steps: expected a whole number"),
    ("stop_threshold", -1, "stop_threshold: expected a number that is not negative"),
    ("entropy_scale", None, "entropy_scale: expected a number"),
    ("entropy_scale", float("inf"), "entropy_scale: expected a number"),
    ("candidates", 2, "canvases[0].candidates: a position has 5 candidates, more than 2"),
    ("canvases", [], "canvases: expected at least one canvas"),
    ("canvases.1", [], "canvases[1]: expected an object, found a list"),
    ("canvases.0.steps", 7, "canvases[0].mean_entropy: expected 7 numbers"),
    ("canvases.0.valid", 13, "canvases[0].valid: expected a whole number from 0 to 12"),
    ("canvases.0.canvas", "abc", "canvases[0].canvas: expected an object"),
    ("canvases.0.canvas", {"ids": ""}, "canvases[0].canvas: changed is missing"),
    ("canvases.0.best.changed", "AAAA", "canvases[0].best: expected 9 bytes, found 3"),
    ("canvases.0.best.changed", "AAAAAAAAAAAA", "best: the first step must have a value"),
    ("canvases.0.best.ids", "AA==", "canvases[0].best: expected"),
    ("canvases.0.best.ids", 5, "canvases[0].best: expected a base64 text, found int"),
    ("canvases.0.entropy", "ä", "canvases[0].entropy: not a base64 text"),
    ("canvases.0.accepted", "A", "canvases[0].accepted: not a base64 text"),
    ("canvases.0.kept", "", "canvases[0].kept: expected 2 bytes, found 0"),
    ("canvases.0.candidates.counts", "", "canvases[0].candidates: expected"),
    ("canvases.0.candidates.probabilities", "", "canvases[0].candidates: expected"),
    ("canvases.0.mean_entropy", [1], "canvases[0].mean_entropy: expected 6 numbers"),
    ("canvases.1", TEXTS, "canvases: expected texts on all of them or on none"),
    ("figures", [], "figures: expected an object, found a list"),
    ("figures.seconds", "fast", "figures.seconds: expected a number that is not negative"),
    ("left_to_right.ids", "////", "left_to_right.ids: token 255 is not in the list of 40 tokens"),
    ("left_to_right.ids", "", "left_to_right.ids: expected at least one token"),
    ("left_to_right.seconds", MISSING, "left_to_right.seconds is missing"),
    ("view.kind", "grid", "view.kind: expected 'drawing'"),
    ("view.shape", "<b>", "view.shape: expected 'square' or 'round'"),
    ("view.name", 5, "view.name: expected a text, found a number"),
    ("view.size", [3], "view.size: expected width and height, numbers up to 1000"),
    ("view.size", [3, 0], "view.size: expected width and height, numbers up to 1000"),
    ("view.cells", [0, 1, 2, 3, 4, 24], "view.cells: expected whole numbers from 0 to 23"),
    ("view.cells", [], "view.cells: expected at least one cell"),
    ("view.places", [[0, 0]], "view.places: expected 6 pairs, one for each cell"),
    ("view.places.0", [0, "x"], "view.places: expected lists of 2 numbers up to 1000"),
    ("view.places.0", [0, 1e9], "view.places: expected lists of 2 numbers up to 1000"),
    ("view.lines.0", [0, 0, 1], "view.lines: expected lists of 4 numbers up to 1000"),
    ("view.links.0", [0, 6], "view.links: expected lists of 2 whole numbers from 0 to 5"),
    ("view.clues", [6], "view.clues: expected whole numbers from 0 to 5"),
    ("view.right", ["1"], "view.right: expected 6 texts, one for each cell"),
    ("view.names", [1] * 6, "view.names: expected texts"),
    ("view.groups.1.color", "url(x)", "view.groups[1].color: expected 'red' or 'green'"),
    ("view.groups.0.texts", [1], "view.groups[0].texts: expected texts"),
    ("view.demands.0.kind", "eval", "view.demands[0].kind: expected 'sum' or 'run'"),
    ("view.demands.0.weights", [1], "view.demands[0].weights: expected 2 whole numbers"),
    ("view.demands.0.is", "2", "view.demands[0].is: expected a whole number"),
    ("view.demands.1.texts", ["w1"], "view.demands[1].texts: expected a list of texts"),
    ("view.demands.1.texts.0", [1], "view.demands[1].texts: expected texts"),
    ("view.demands.2.title", MISSING, "view.demands[2].title is missing"),
    ("view.demands.3.is", 0, "view.demands[3].is: expected a whole number from 1"),
]
GRID = {
    "kind": "grid",
    "columns": 2,
    "cells": [0, 2, 4, 6],
    "clues": [1],
    "box": 1,
    "right": [*"1234"],
}
BROKEN_GRID = [
    ("kind", "graph", "view.kind: expected 'grid'"),
    ("columns", 3, "view.cells: expected full rows of 3 cells, found 4 cells"),
    ("cells", [0, 1, 2, 24], "view.cells: expected whole numbers from 0 to 23"),
    ("clues", [4], "view.clues: expected whole numbers from 0 to 3"),
    ("right", ["1"], "view.right: expected 4 texts, one for each cell"),
]


@pytest.mark.parametrize(("path", "value", "fault"), BROKEN, ids=[f"{b[0]} {b[2]}" for b in BROKEN])
def test_what_is_broken_is_named_in_one_line(path, value, fault):
    with pytest.raises(ValueError) as error:
        check_record(broken(path, value), "FILE, line 3")
    said = str(error.value)
    assert said.startswith("FILE, line 3: ") and fault in said and "\n" not in said


def test_a_record_survives_json_and_anything_else_is_none():
    assert check_record(json.loads(json.dumps(RECORD)), "here") == RECORD
    assert is_record(RECORD) and not is_record({"row": 0}) and not is_record([RECORD])
    with pytest.raises(ValueError, match=r"^here: expected an object, found a list$"):
        check_record([], "here")


def test_a_grid_of_version_1_becomes_a_drawing():
    old = RECORD | {"version": 1, "view": GRID}
    record = check_record(old, "here")
    assert old["version"] == 1 and record == RECORD | {"view": VIEW | {"right": GRID["right"]}}
    del (bare := {**old})["view"]
    assert check_record(bare, "here")["version"] == 2


@pytest.mark.parametrize(("name", "value", "fault"), BROKEN_GRID)
def test_a_broken_grid_of_version_1_is_named_too(name, value, fault):
    with pytest.raises(ValueError) as error:
        check_record(RECORD | {"version": 1, "view": GRID | {name: value}}, "FILE")
    assert str(error.value) == f"FILE: {fault}"
