"""Finds records in a file: JSON records, a page, or answers of sample.main with drafts."""

import math
from pathlib import Path
from typing import Any

from data.measures import effective_steps, tokens_per_forward
from files.json_text import read_json, why_not_json
from sample.page.check import check_record, is_record
from sample.page.record import FORMAT, VERSION, Record
from sample.page.write import BEGIN, END


def read_records(path: Path) -> list[Record]:
    """Reads all records of a file.

    Args:
      path: JSON records, in an array or one in each line; a page that was written before; or
        answers as `sample.main --out=FILE --trajectory` writes them, of which only texts are known.

    Returns:
      at least one record.

    Raises:
      ValueError: the file holds something else. The error is one line and names the line or record.
      OSError: the file cannot be read.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no UTF-8 text, so it has no records and no answers") from None
    if BEGIN in text and text.lstrip()[:1] == "<":
        inside = text.partition(BEGIN)[2].partition(END)[0]
        values = _json(inside, f"{path}: its records")
        if not isinstance(values, list):
            raise ValueError(f"{path}: its records are no list")
        places = [(f"{path}, record {i}", value) for i, value in enumerate(values, 1)]
    elif text.lstrip()[:1] == "[":
        values = _json(text, str(path))
        places = [(f"{path}, record {i}", value) for i, value in enumerate(values, 1)]
    elif (value := _object(text)) is not None:
        places = [(f"{path}, record 1", value)]
    else:  # a text in JSON may have a line end of Unicode's
        lines = ((f"{path}, line {i}", x) for i, x in enumerate(text.split("\n"), 1) if x.strip())
        places = [(place, _json(line, place)) for place, line in lines]
    if not places:
        raise ValueError(f"{path}: no records and no answers")
    return [_record(value, place) for place, value in places]


def _json(text: str, place: str) -> Any:
    try:
        return read_json(text)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON: {why_not_json(error)}") from None


def _object(text: str) -> Any:
    """The object that a text is as a whole; None if it is something else."""
    try:
        return read_json(text)
    except ValueError:
        return None


def _record(value: Any, place: str) -> Record:
    if isinstance(value, dict) and not is_record(value) and {"row", "answer"} <= value.keys():
        value = from_answer(value, place)
    elif not is_record(value):
        raise ValueError(
            f"{place}: neither a record of a generation (docs/FORMATS.md) nor an answer of "
            "sample.main"
        )
    return check_record(value, place)


def from_answer(answer: dict[str, Any], place: str) -> Record:
    """The record of an answer with drafts. Its canvases are whole texts.

    Raises:
      ValueError: the answer has no drafts, or they are damaged.
    """
    if not answer.get("drafts"):
        raise ValueError(f"{place}: an answer without drafts: --trajectory records them")
    try:
        canvases = [
            {
                "steps": len(drafts),
                "valid": valid,
                "mean_entropy": [draft["entropy"] for draft in drafts],
                "texts": [draft["text"] for draft in drafts],
                "accepted_counts": [draft["accepted"] for draft in drafts],
            }
            for drafts, valid in zip(answer["drafts"], answer["valid_tokens"], strict=True)
        ]
        steps, valid = answer["steps"], answer["valid_tokens"]
        effective = effective_steps(steps, valid)
        figures = {
            "steps": sum(steps),
            "tokens": sum(valid),
            "effective_steps": None if math.isnan(effective) else round(effective, 3),
            "tokens_per_forward": round(tokens_per_forward(steps, valid, len(steps)), 4),
        }
        sample = f", sample {answer['sample']}" if answer.get("sample") else ""
    except (TypeError, KeyError, ValueError, AttributeError):
        raise ValueError(f"{place}: the answer's drafts are damaged") from None
    number = answer["row"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": ("The answer" if number is None else f"Prompt {number}") + sample,
        "prompt": "",
        "model": answer.get("checkpoint") or "",
        "tokens": [],
        "id_bytes": 1,
        "canvas_size": 1,
        "max_steps": max(canvas["steps"] for canvas in canvases),
        "stop_threshold": None,
        "candidates": 0,
        "least_probability": 0,
        "entropy_scale": 1,
        "canvases": canvases,
        "figures": figures,
    }
