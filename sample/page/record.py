"""The record of a generation: what a page shows of it, in a small JSON object.

docs/FORMATS.md describes the record, so that other programs can write one. check.py reads it.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.measures import effective_steps, tokens_per_forward
from data.text.tokenizer import Tokenizer
from sample.generation import Generation
from sample.page.columns import (
    CandidateColumns,
    pack_candidates,
    pack_steps,
    packed,
    packed_bits,
    packed_ids,
)
from sample.step import SamplerConfig

FORMAT, VERSION = "denoising", 2
LIMIT = 300_000  # bytes of a record; improbable candidates are given up for it
CANDIDATES = 5  # of a position, on a page
# Bytes of a probability below which candidates are left out, until the record is small enough.
FLOORS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 256)
Record = dict[str, Any]


class About(NamedTuple):
    """What a record says beside the steps.

    Attributes:
      title: one line that names the answer.
      prompt: the text of the prompt.
      model: which model answered; "" for no name.
      view: how the task draws an answer (`Task.view`); None for text.
    """

    title: str
    prompt: str
    model: str = ""
    view: dict[str, Any] | None = None


class LeftToRight(NamedTuple):
    """An answer of the same weights, token by token.

    Attributes:
      tokens: [n] int32, up to and with the stop token. Each took one forward pass.
      seconds: the time of all of them after the prefill; None if it was not measured.
    """

    tokens: np.ndarray
    seconds: float | None


def make_record(
    out: Generation,
    row: int,
    text_of: Callable[[int], str],
    config: SamplerConfig,
    about: About,
    *,
    kept: np.ndarray | None = None,
    seconds: float | None = None,
    left_to_right: LeftToRight | None = None,
    limit: int = LIMIT,
) -> Record:
    """Makes the record of one row.

    Args:
      out: a generation with a trajectory.
      row: the row, from 0.
      text_of: gives the text of a token.
      config: the sampler's settings.
      about: what else the page says.
      kept: [n] bool, positions of the answer that are kept (`Given.keep`); None for none.
      seconds: the time after the prefill; None if it was not measured.
      left_to_right: what the same weights write left to right; None for nothing.
      limit: largest size in bytes, as UTF-8. If the record is larger, improbable candidates are
        left out, in the end all.

    Raises:
      ValueError: the generation has no trajectory, or the row has no canvas.
    """
    if out.best is None or out.canvas is None:
        raise ValueError("the generation has no trajectory")
    taken = out.recorded_steps[row]
    begun = int((taken > 0).sum())
    if not begun:
        raise ValueError(f"row {row} has no canvas")
    figures = _figures(out, row, begun, kept, seconds)
    for floor in (*(FLOORS if out.candidates else ()), None):
        parts = about, kept, floor, left_to_right
        record = _record(out, row, taken[:begun], text_of, config, *parts) | {"figures": figures}
        if len(dumps(record).encode("utf-8", "surrogatepass")) <= limit:
            break
    return record


def dumps(record: Record) -> str:
    """A record as one line of JSON, which may have characters of any kind."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def token_texts(tokenizer: Tokenizer) -> Callable[[int], str]:
    """A function that gives the text of a token, also of one that is no text of its own.

    A token of single bytes is written like <0xE2>, and an id that the tokenizer does not know like
    <token 1023>.
    """

    def text_of(token: int) -> str:
        data = tokenizer.token_bytes[token] if token < len(tokenizer.token_bytes) else None
        if data:
            try:
                return data.decode()
            except UnicodeDecodeError:
                return "".join(f"<0x{byte:02X}>" for byte in data)
        return tokenizer.decode([token], skip_special=False) or f"<token {token}>"

    return text_of


class _Tokens:
    """The list of a record's tokens, in the order of their first use.

    Args:
      arrays: all arrays of ids that the record has; -1 is none.
    """

    def __init__(self, arrays: list[np.ndarray]):
        every = np.concatenate([array.reshape(-1) for array in arrays])
        self.ids, first = np.unique(every[every >= 0], return_index=True)
        order = np.argsort(first)
        self._place = np.empty(len(order), np.int32)
        self._place[order] = np.arange(len(order))
        self.listed = self.ids[order].tolist()
        self.id_bytes = next(n for n in (1, 2, 3) if len(self.ids) <= 256**n)

    def places(self, ids: np.ndarray) -> np.ndarray:
        """The places of tokens in the list; -1 stays -1."""
        found = self._place[np.searchsorted(self.ids, np.maximum(ids, self.ids[0]))]
        return np.where(ids >= 0, found, -1)


def _record(
    out: Generation,
    row: int,
    taken: np.ndarray,
    text_of: Callable[[int], str],
    config: SamplerConfig,
    about: About,
    kept: np.ndarray | None,
    floor: int | None,
    left_to_right: LeftToRight | None,
) -> Record:
    """The record without figures. taken [K] has the steps; floor is None for no candidates."""
    size = out.best.shape[-1]
    steps = [(k, slice(0, int(count))) for k, count in enumerate(taken)]
    columns = [] if floor is None else [_candidates(out, row, k, part, floor) for k, part in steps]
    used = [x[row, k, part] for k, part in steps for x in (out.canvas, out.best)]
    used += [column.ids for column in columns]
    used += [] if left_to_right is None else [left_to_right.tokens]
    tokens = _Tokens(used)
    wide = tokens.id_bytes
    scale = max(float(max(out.entropy[row, k, part].max() for k, part in steps)), 1e-3)
    keep = _by_canvas(kept, out.best.shape[1], size)

    def canvas(k: int, part: slice) -> dict[str, Any]:
        entropy, free = out.entropy[row, k, part], ~keep[k]
        mean = entropy[:, free].mean(axis=1) if free.any() else np.zeros(len(entropy))
        found = {
            "steps": part.stop,
            "valid": int(out.valid_tokens[row, k]),
            "canvas": pack_steps(tokens.places(out.canvas[row, k, part]), wide),
            "best": pack_steps(tokens.places(out.best[row, k, part]), wide),
            "accepted": packed_bits(out.accepted[row, k, part]),
            "entropy": packed(_bytes_of(entropy, scale)),
            "mean_entropy": [float(f"{nats:.4g}") for nats in mean],
        }
        if keep[k].any():
            found["kept"] = packed_bits(keep[k])
        if columns:
            places = columns[k]._replace(ids=tokens.places(columns[k].ids))
            found["candidates"] = pack_candidates(places, wide)
        return found

    record = {
        "format": FORMAT,
        "version": VERSION,
        "title": about.title,
        "prompt": about.prompt,
        "model": about.model,
        "tokens": list(map(text_of, tokens.listed)),
        "id_bytes": wide,
        "canvas_size": size,
        "max_steps": config.max_steps,
        "stop_threshold": config.stop_threshold if config.early_stop else None,
        "candidates": 0 if floor is None else out.candidates.ids.shape[-1],
        "least_probability": floor or 0,
        "entropy_scale": scale,
        "canvases": [canvas(k, part) for k, part in steps],
    }
    if left_to_right is not None:
        ids = packed_ids(tokens.places(left_to_right.tokens), wide)
        record["left_to_right"] = {"ids": ids, "seconds": left_to_right.seconds}
    # An answer that has ended too early has no positions for all cells.
    if about.view is not None and max(about.view["cells"]) < size * len(steps):
        record["view"] = about.view
    return record


def _candidates(out: Generation, row: int, k: int, part: slice, floor: int) -> CandidateColumns:
    """The candidates of a canvas: the first one, and others whose byte is at least the floor."""
    ids, probabilities = (x[row, k, part] for x in out.candidates)
    found = np.round(np.clip(probabilities, 0, 1) * 255).astype(np.uint8)
    there = (ids >= 0) & ((found >= floor) | (np.arange(ids.shape[-1]) == 0))
    return CandidateColumns(np.where(there, ids, -1), np.where(there, found, 0))


def _bytes_of(entropy: np.ndarray, scale: float) -> np.ndarray:
    """Entropies in nats as bytes b with nats = scale (b / 255)^3, so that small ones differ."""
    return np.round(255 * np.cbrt(np.clip(entropy, 0, None) / scale)).astype(np.uint8)


def _by_canvas(kept: np.ndarray | None, canvases: int, size: int) -> np.ndarray:
    """[K, C] bool, the kept positions of each canvas."""
    keep = np.zeros(canvases * size, bool)
    if kept is not None:
        keep[: len(kept)] = kept
    return keep.reshape(-1, size)


def _figures(
    out: Generation, row: int, begun: int, kept: np.ndarray | None, seconds: float | None
) -> dict[str, Any]:
    """Figures of the answer, of all starts together. Kept tokens do not count."""
    steps, size = out.steps[row, :begun], out.best.shape[-1]
    said = np.arange(size) < out.valid_tokens[row, :begun, None]  # [K, C]
    valid = (said & ~_by_canvas(kept, out.best.shape[1], size)[:begun]).sum(axis=1)
    effective = effective_steps(steps, valid)
    figures = {
        "steps": int(steps.sum()),
        "tokens": int(valid.sum()),
        "effective_steps": None if math.isnan(effective) else round(effective, 3),
        "tokens_per_forward": round(tokens_per_forward(steps, valid, begun), 4),
        "seconds": seconds,
    }
    if out.starts is not None:
        figures["starts"] = out.starts.steps.shape[-1]
    return figures
