"""Amino acids: how often they occur, their charge and hydropathy, motifs, and a check of peptides.

The net charge at pH 7 is counted as Uversky, Gillespie and Fink count it (Proteins 41, 2000, 415):
lysine and arginine are +1, aspartate and glutamate are -1, all others are 0. Histidine is 0,
because its pKa lies below 7. The charges of the two ends cancel each other. Hydrophobic residues
are those with a positive hydropathy in the scale of Kyte and Doolittle (J. Mol. Biol. 157, 1982,
105): A, C, F, I, L, M and V. Motifs are patterns of PROSITE, in its own syntax.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Percent of all residues in UniProtKB/Swiss-Prot, from its release statistics (section "amino acid
# composition"). From one release to the next they change by some hundredths.
FREQUENCIES = {
    "A": 8.25, "R": 5.53, "N": 4.06, "D": 5.46, "C": 1.38, "Q": 3.93, "E": 6.72, "G": 7.07,
    "H": 2.27, "I": 5.91, "L": 9.65, "K": 5.80, "M": 2.41, "F": 3.86, "P": 4.74, "S": 6.64,
    "T": 5.35, "W": 1.10, "Y": 2.92, "V": 6.86,
}  # fmt: skip
LETTERS = "".join(FREQUENCIES)
HYDROPATHY = {
    "A": 1.8, "R": -4.5, "N": -3.5, "D": -3.5, "C": 2.5, "Q": -3.5, "E": -3.5, "G": -0.4,
    "H": -3.2, "I": 4.5, "L": 3.8, "K": -3.9, "M": 1.9, "F": 2.8, "P": -1.6, "S": -0.8,
    "T": -0.7, "W": -0.9, "Y": -1.3, "V": 4.2,
}  # fmt: skip
# Short patterns of PROSITE: accession number -> pattern.
MOTIFS = {
    "PS00001": "N-{P}-[ST]-{P}",  # N-glycosylation
    "PS00002": "S-G-x-G",  # attachment of a glycosaminoglycan
    "PS00004": "[RK](2)-x-[ST]",  # phosphorylation by cAMP-dependent kinases
    "PS00005": "[ST]-x-[RK]",  # phosphorylation by protein kinase C
    "PS00006": "[ST]-x(2)-[DE]",  # phosphorylation by casein kinase II
    "PS00007": "[RK]-x(2)-[DE]-x(3)-Y",  # phosphorylation by tyrosine kinases
    "PS00008": "G-{EDRKHPFYW}-x(2)-[STAGCN]-{P}",  # N-myristoylation
    "PS00009": "x-G-[RK]-[RK]",  # amidation
    "PS00016": "R-G-D",  # cell attachment
    "PS00017": "[AG]-x(4)-G-K-[ST]",  # ATP and GTP binding, the P-loop
    "PS00190": "C-{CPWHF}-{CPWR}-C-H-{CFYW}",  # heme binding of cytochrome c
}
OPEN = "-"  # stands for a residue that is not kept


class Peptide(NamedTuple):
    """An item: demands, and one peptide that meets them.

    Attributes:
      residues: the peptide that was drawn, one letter for each residue.
      given: the same with OPEN for every residue that is not kept.
      charge: the demanded net charge at pH 7.
      hydrophobic: the demanded number of hydrophobic residues.
      motif: accession number of the demanded motif.
      motif_start: place of the first residue of the motif that was planted, from 0.
    """

    residues: str
    given: str
    charge: int
    hydrophobic: int
    motif: str
    motif_start: int


def expression(pattern: str) -> re.Pattern[str]:
    """The regular expression that says the same as a pattern of PROSITE."""
    text = pattern.replace("-", "").replace("x", ".").replace("{", "[^").replace("}", "]")
    return re.compile(text.replace("(", "{").replace(")", "}"))


def without_budgets(answer: str) -> str:
    """The residues of an answer, without white space and the budgets of its lines."""
    return re.sub(r"[0-9][+-][0-9](:[0-9]{2})?|\s", "", answer)


def demands_met(item: Peptide, answer: str) -> dict[str, bool]:
    """Which demands an answer meets. It shares no code with what draws peptides.

    Args:
      item: the item; the peptide that was drawn is not looked at, except for its length.
      answer: the answer's text. White space at its ends does not matter.

    Returns:
      "length", "charge", "hydrophobic", "motif" and "kept" -> whether it is met. An answer with
      anything but the twenty letters meets none.
    """
    text = without_budgets(answer)
    if not re.fullmatch("[ACDEFGHIKLMNPQRSTVWY]+", text):
        return dict.fromkeys(("length", "charge", "hydrophobic", "motif", "kept"), False)
    charge = len(re.findall("[KR]", text)) - len(re.findall("[DE]", text))
    kept = item.given.rstrip(OPEN).replace(OPEN, ".")
    return {
        "length": len(text) == len(item.given),
        "charge": charge == item.charge,
        "hydrophobic": sum(text.count(residue) for residue in "ACFILMV") == item.hydrophobic,
        "motif": expression(MOTIFS[item.motif]).search(text) is not None,
        "kept": re.match(kept, text) is not None,
    }


class Variety(NamedTuple):
    """How different peptides are from each other and from others.

    Attributes:
      distinct: the share of different peptides among all.
      identity: the mean, over all pairs of them, of the share of places with the same residue. Of
        two peptides of different lengths, the longer one's other places count as different.
      new: the share of the peptides that are not among the others.
    """

    distinct: float
    identity: float
    new: float


def variety(peptides: Sequence[str], others: Sequence[str]) -> Variety:
    """Compares peptides with each other and with others, for example those of the training.

    Args:
      peptides: n of them, n >= 2.
      others: the peptides that are not new.
    """
    n, width = len(peptides), max(map(len, peptides))
    # Behind its end, every peptide has a character that no other peptide has.
    codes = [[*p.encode(), *[256 + i] * (width - len(p))] for i, p in enumerate(peptides)]
    rows, lengths = np.array(codes), np.array([len(p) for p in peptides])
    total = 0.0
    for i in range(n - 1):
        same = (rows[i] == rows[i + 1 :]).sum(axis=1)
        total += float((same / np.maximum(lengths[i], lengths[i + 1 :])).sum())
    known = set(others)
    return Variety(
        distinct=len(set(peptides)) / n,
        identity=total / (n * (n - 1) / 2),
        new=sum(peptide not in known for peptide in peptides) / n,
    )
