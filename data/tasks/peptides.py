"""Amino acid sequences: peptides of which a length, a charge, a count and a motif are demanded.

A prompt demands a number of residues, a net charge at pH 7, a number of hydrophobic residues and a
motif of PROSITE that must occur somewhere (data/tasks/amino_acids.py defines them). Some residues
are kept tokens; the first residue of the motif that the pattern names is always one of them. All
demands are exact. Many peptides meet them, and any of them is a right answer.

A peptide is drawn residue by residue, a motif is planted in one of its lines, and its own
properties are then demanded. An answer is written in lines of BLOCK residues. Each line begins with
its own budget: the number of hydrophobic residues and the net charge of the residues that were
drawn for it, and the number of the motif if the motif was planted in it. The budgets are kept
tokens. They tell the model how to share out what is demanded of the whole; only the demands on the
whole count.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from data.tasks.amino_acids import (
    FREQUENCIES,
    HYDROPATHY,
    LETTERS,
    MOTIFS,
    OPEN,
    Peptide,
    demands_met,
    without_budgets,
)
from data.tasks.drawing import Drawing, Group, run, total
from data.tasks.seeded import SeededSource
from data.tasks.task import UNBOUNDED, Check, Replay, Splits, Task, TaskError
from data.text.parts import Part

BLOCK = 8  # residues of a line
HELD_OUT = 10  # one of so many combinations of length, charge and hydrophobic residues

_WEIGHTS = np.array(list(FREQUENCIES.values())) / sum(FREQUENCIES.values())
_CHARGES = np.array([(r in "RK") - (r in "DE") for r in LETTERS])
_HYDROPHOBIC = np.array([HYDROPATHY[r] > 0 for r in LETTERS])


def elements(pattern: str) -> np.ndarray:
    """The residues that a pattern of PROSITE allows, place by place.

    Args:
      pattern: a pattern without anchors and without numbers of repeats from a range.

    Returns:
      [n, 20] bool: place, index in LETTERS.
    """
    places = []
    for element in pattern.split("-"):
        body, _, count = element.rstrip(")").partition("(")
        allowed = [body == "x" or (r in body) != body.startswith("{") for r in LETTERS]
        places += [allowed] * int(count or 1)
    return np.array(places)


def is_held_out(length: int, charge: int, hydrophobic: int) -> bool:
    """Whether peptides with these properties are held out. A tenth of all combinations is."""
    return zlib.crc32(f"{length} {charge} {hydrophobic}".encode()) % HELD_OUT == 0


class PeptideSource(SeededSource):
    """Peptides with their demands, with random access.

    Args:
      seed: random seed.
      size: the number of items.
      task: says which lengths, shares of kept residues and motifs there are.
      test: whether the items are held out.
    """

    def __init__(self, seed: int, size: int, task: "PeptidesTask", test: bool) -> None:
        super().__init__(seed, size)
        self.lengths, self.shares = task.length_range, task.kept_range
        self.motifs = [(name, elements(MOTIFS[name])) for name in task.motif_names]
        self.test = test

    def draw(self, rng: np.random.Generator) -> Peptide:
        """Draws an item, again and again until it is on this side of the split."""
        while True:
            length = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
            residues = rng.choice(len(LETTERS), length, p=_WEIGHTS)
            name, places = self.motifs[rng.integers(len(self.motifs))]
            # In one line, because the budget of a next one would stand in its midst.
            starts = np.arange(length - len(places) + 1)
            start = rng.choice(starts[starts % BLOCK + len(places) <= BLOCK])
            for at, allowed in enumerate(places, start):
                weights = _WEIGHTS * allowed
                residues[at] = rng.choice(len(LETTERS), p=weights / weights.sum())
            charge = int(_CHARGES[residues].sum())
            hydrophobic = int(_HYDROPHOBIC[residues].sum())
            if is_held_out(length, charge, hydrophobic) == self.test:
                break
        share = rng.uniform(self.shares[0], self.shares[1]) / 100
        count = min(max(round(share * length), 1), length - 1)
        first = start + int(np.argmax(places.sum(axis=1) < len(LETTERS) // 2))
        others = np.delete(np.arange(length), first)
        kept = np.zeros(length, bool)
        kept[[first, *rng.permutation(others)[: count - 1]]] = True
        text = "".join(LETTERS[r] for r in residues)
        given = "".join(r if keep else OPEN for r, keep in zip(text, kept, strict=True))
        return Peptide(text, given, charge, hydrophobic, name, int(start))


@dataclasses.dataclass(frozen=True)
class PeptidesTask(Task):
    """Peptides that meet demands.

    A held-out peptide has a length, a charge and a number of hydrophobic residues that no training
    peptide has together. So no peptide and no prompt is in both parts.

    Attributes:
      lengths: numbers of residues, a number or a range such as 20-40.
      kept: percent of the residues that are kept, a number or a range such as 30-60. At least one
        residue is open.
      motifs: accession numbers of PROSITE with commas between them, out of MOTIFS. Empty: all.

    Raises:
      TaskError: a setting cannot be used.
    """

    lengths: str = "20-40"
    kept: str = "30-60"
    motifs: str = ""

    name: ClassVar[str] = "peptides"
    title: ClassVar[str] = "amino acid sequences"
    noun: ClassVar[str] = "peptide"
    generated: ClassVar[tuple[str, ...]] = ("lengths", "kept", "motifs")
    measures: ClassVar[dict[str, str]] = {
        "exact": "all demands met",
        "valid": "peptides of any kind",
        "parts": "demands met",
        "length": "length met",
        "charge": "charge met",
        "hydrophobic": "hydrophobic residues met",
        "motif": "motif found",
        "kept": "kept residues in place",
    }
    notes: ClassVar[tuple[str, ...]] = (
        "All demands met: the answer has the demanded length, net charge at pH 7 and number of "
        "hydrophobic residues, the motif occurs in it, and every kept residue stands at its place. "
        "Many peptides meet the demands of one prompt; each of them counts. Demands met: the mean "
        "share of these five.",
        "Net charge: K and R are +1, D and E are -1, all other residues are 0, and the ends cancel "
        "each other (Uversky, Gillespie and Fink 2000). Hydrophobic: A, C, F, I, L, M and V, whose "
        "hydropathy is positive (Kyte and Doolittle 1982). Motifs are patterns of PROSITE. "
        "Residues are drawn with their frequencies in UniProtKB/Swiss-Prot.",
        "No training peptide has the length, the charge and the number of hydrophobic residues of "
        "a held-out one together.",
    )

    def __post_init__(self) -> None:
        longest = max(len(elements(MOTIFS[name])) for name in self.motif_names)
        if self.length_range[0] <= longest:
            raise TaskError(
                f"lengths={self.lengths}: a peptide has more residues than its motif, so give "
                f"{longest + 1} or more"
            )
        if self.kept_range[1] > 100:
            raise TaskError(f"kept={self.kept}: at most 100 percent of the residues can be kept")

    @property
    def length_range(self) -> tuple[int, int]:
        return _range("lengths", self.lengths)

    @property
    def kept_range(self) -> tuple[int, int]:
        return _range("kept", self.kept)

    @property
    def motif_names(self) -> list[str]:
        names = [name.strip() for name in self.motifs.split(",")] if self.motifs else list(MOTIFS)
        for name in names:
            if name not in MOTIFS:
                raise TaskError(f"motifs={self.motifs}: '{name}' is not one of {', '.join(MOTIFS)}")
        return names

    def open(self, seed: int, check: Check, test: bool = True) -> Splits:
        train = PeptideSource(2 * seed, UNBOUNDED, self, test=False)
        return Splits(train, PeptideSource(2 * seed + 1, UNBOUNDED, self, True) if test else None)

    def text(self, item: Peptide) -> tuple[str, str]:
        prompt = (
            f"Write a peptide of {len(item.given):02}, hydrophobic {item.hydrophobic:02}, "
            f"charge {item.charge:+}, motif {MOTIFS[item.motif]} {item.motif}"
        )
        return prompt, "".join(part.text for part in self.parts(item))

    def parts(self, item: Peptide) -> list[Part]:
        """A part for each budget, each residue and each line end."""
        parts: list[Part] = []
        for at, (right, shown) in enumerate(zip(item.residues, item.given, strict=True)):
            if at % BLOCK == 0:
                line = [LETTERS.index(residue) for residue in item.residues[at : at + BLOCK]]
                budget = f"{_HYDROPHOBIC[line].sum()}{_CHARGES[line].sum():+}"
                if at <= item.motif_start < at + BLOCK:
                    budget += f":{item.motif[-2:]}"
                parts.append(Part(budget if not at else f"\n{budget}", "kept"))
            parts.append(Part(right, "open" if shown == OPEN else "kept"))
        return parts

    def score(self, item: Peptide, answer: str) -> dict[str, float]:
        met = demands_met(item, answer)
        scores = {name: float(value) for name, value in met.items()}
        text = without_budgets(answer)
        return {
            "exact": float(all(met.values())),
            "valid": float(bool(text) and not set(text) - set(LETTERS)),
            "parts": sum(scores.values()) / len(scores),
        } | scores

    def bins(self, items: Sequence[Peptide]) -> dict[str, dict[str, np.ndarray]]:
        motifs = np.array([item.motif for item in items])
        return {
            "length": _in_groups([len(item.given) for item in items], 6, 7, "residues"),
            "open residues": _in_groups([item.given.count(OPEN) for item in items], 1, 8, "open"),
            "motif": {f"{name} {MOTIFS[name]}": motifs == name for name in MOTIFS},
        }

    def columns(self, item: Peptide) -> dict[str, str]:
        return {"drawn": item.residues, "given": item.given, "prompt": self.text(item)[0]}

    def shown(self, answer: str) -> str:
        return without_budgets(answer)

    def view(self, item: Peptide, expected: Sequence[str]) -> dict[str, Any] | None:
        """The residues in their lines; None if residues are not tokens of the canvas."""
        cells = _residues(item, expected)
        if cells is None:
            return None
        signs = {"positive": "KR", "negative": "DE", "hydrophobic": _letters(_HYDROPHOBIC)}
        signs["other"] = "".join(r for r in LETTERS if r not in "".join(signs.values()))
        colors = "blue", "red", "yellow", "grey"
        pattern = MOTIFS[item.motif]
        return Drawing(
            "Residues",
            (BLOCK, -(-len(cells) // BLOCK)),
            cells,
            [(i % BLOCK, i // BLOCK) for i in range(len(cells))],
            groups=[Group(*group) for group in zip(signs, colors, signs.values(), strict=True)],
            demands=[
                total("length", (1, 1, 1, 1), len(cells)),
                total("net charge", (1, -1, 0, 0), item.charge),
                total("hydrophobic residues", (0, 0, 1, 0), item.hydrophobic),
                run(f"motif {pattern}", [_letters(allowed) for allowed in elements(pattern)]),
            ],
        ).record()

    def picture(self, item: Peptide, replay: Replay) -> bytes | None:
        """Draws the steps as lines of letters; None if residues are not tokens of the canvas."""
        # Training and questions need no picture, and matplotlib takes long to import.
        from data.tasks.peptide_lines import peptide_lines

        places = _residues(item, replay.expected)
        if places is None or places[-1] >= replay.accepted.shape[1]:
            return None
        letters = [[step[i] for i in places] for step in replay.pieces]
        accepted, entropy = replay.accepted[:, places], replay.entropy[:, places]
        return peptide_lines(item, letters, accepted, entropy)


def _residues(item: Peptide, expected: Sequence[str]) -> list[int] | None:
    """Positions of the residues in an answer with the tokens `expected`; None if they are not."""
    places = [i for i, piece in enumerate(expected) if piece in LETTERS and piece]
    return places if len(places) == len(item.given) else None


def _letters(chosen: np.ndarray) -> str:
    """The letters of some residues, [20] bool."""
    return "".join(np.array(list(LETTERS))[chosen])


def _in_groups(counts: Sequence[int], first: int, width: int, what: str) -> dict[str, np.ndarray]:
    """Bins of `width` counts each; the first one begins at the count `first`."""
    counts = np.array(counts)
    return {
        f"{low} to {low + width - 1} {what}": (counts >= low) & (counts < low + width)
        for low in range(first, int(counts.max()) + 1, width)
    }


def _range(setting: str, text: str) -> tuple[int, int]:
    """The numbers of a text such as 20-40 or 20, (fewest, most).

    Raises:
      TaskError: the text is neither a number nor a range.
    """
    ends = [end.strip() for end in str(text).split("-")]
    if len(ends) > 2 or not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
        raise TaskError(f"{setting}={text}: give a number, or a range such as 20-40")
    return int(ends[0]), int(ends[-1])
