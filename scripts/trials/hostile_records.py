"""Records, pages and answers that others have made, and a word of the one line that refuses each.

`sample.page` makes a page of a file in {folder}/records. What is no record is refused, and what is
text in a record is shown as text (tests/sample/page/hostile.py has such texts, which a browser
shows). Anyone may add a row.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.trials.bad_input import BadInput, written

ASK = ("sample.page.__main__", "--from={folder}/records", "--page={folder}/page.html")
ANSWER = {
    "row": 1,
    "answer": "b",
    "steps": [1],
    "valid_tokens": [1],
    "drafts": [[{"text": "b", "entropy": 0.5, "accepted": 1}]],
}
RECORD = {
    "format": "denoising",
    "version": 2,
    "title": "",
    "prompt": "",
    "model": "",
    "tokens": [],
    "id_bytes": 1,
    "canvas_size": 1,
    "max_steps": 1,
    "stop_threshold": None,
    "candidates": 0,
    "least_probability": 0,
    "entropy_scale": 1,
    "canvases": [
        {"steps": 1, "valid": 1, "mean_entropy": [0], "texts": ["a"], "accepted_counts": [1]}
    ],
    "figures": {},
}
SCRIPT = "<script>document.title='mine'</script>"


def _file(make: Callable[[], Any]) -> Callable[[Path], None]:
    """A file of JSON, which is made only when it is written."""
    return lambda folder: written("records", json.dumps(make()))(folder)


def _rows() -> Iterator[BadInput]:
    for name, fields, word in (
        ("a title that is none", {"title": [SCRIPT]}, "title: expected a text"),
        ("a prompt that is none", {"prompt": {"__proto__": 1}}, "prompt: expected a text"),
        ("tokens that are none", {"tokens": [SCRIPT, 1]}, "tokens\\[1\\]: expected a text"),
        ("NaN", {"entropy_scale": float("nan")}, "NaN is no number of JSON"),
        ("infinity", {"stop_threshold": float("inf")}, "Infinity is no number of JSON"),
        ("a negative scale", {"entropy_scale": -1}, "entropy_scale: expected a number"),
        ("2**40 positions", {"canvas_size": 2**40}, "canvas_size: expected a whole number"),
        ("ids of 2**30 bytes", {"id_bytes": 2**30}, "id_bytes: expected a whole number"),
        ("no canvases", {"canvases": []}, "at least one canvas"),
        ("a view of another kind", {"view": {"kind": SCRIPT}}, "view.kind: expected"),
        ("a script for a colour", {"view": {"kind": "drawing", "shape": SCRIPT}}, "view"),
        ("a version of tomorrow", {"version": 10**9}, "version"),
        ("figures that are none", {"figures": {"steps": SCRIPT}}, "figures.steps: expected"),
    ):
        yield BadInput(f"record: {name}", _file(lambda fields=fields: RECORD | fields), ASK, word)
    for name, fields, word in (
        ("a draft that is none", {"drafts": [[SCRIPT]]}, "drafts are damaged"),
        ("a text that is none", {"drafts": [[{**ANSWER["drafts"][0][0], "text": 1}]]}, "texts"),
        ("steps of another answer", {"steps": "12", "valid_tokens": [1, 2]}, "drafts are damaged"),
        ("a checkpoint that is none", {"checkpoint": [SCRIPT]}, "model: expected a text"),
        ("no drafts", {"drafts": []}, "an answer without drafts"),
    ):
        yield BadInput(f"answer: {name}", _file(lambda fields=fields: ANSWER | fields), ASK, word)
    for name, text, word in (
        ("a page of others", f"<!doctype html>{SCRIPT}", "not JSON"),
        ("a page with a record that is none", _page('[{"format": 1}]'), "neither a"),
        ("a page whose records are none", _page("{}"), "its records are no list"),
        ("a page that is cut", _page("[")[:-20], "not JSON"),
        ("a key twice", '{"format": 1, "format": 2}', "twice"),
        ("brackets 100,000 deep", "[" * 100_000, "nested too deeply"),
        ("a number of 5,000 digits", f"[{'9' * 5000}]", "too many digits"),
        ("a line of 20 MB", f'["{"a" * 20_000_000}"', "not JSON"),
        ("no text", b"\xff\xfe\0", "no UTF-8 text"),
        ("nothing", "", "no records"),
        ("escapes", '{"format": "\\u001b[2J\u202e", "a": 1}', "neither a record"),
    ):
        yield BadInput(f"file: {name}", written("records", text), ASK, word)


def _page(records: str) -> str:
    return f'<html><script type="application/json" id="records">{records}</script>'


HOSTILE_RECORDS: tuple[BadInput, ...] = tuple(_rows())
