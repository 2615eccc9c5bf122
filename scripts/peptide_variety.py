"""Says how different the peptides are that an evaluation has written.

    python -m scripts.peptide_variety ANSWERS.csv [COUNT]

ANSWERS.csv is the file that `python -m train.evaluate --task=peptides` writes. For each way of
answering, and for the right answers among them, the command prints the share of distinct peptides,
the mean share of equal residues of two peptides, and the share of peptides that are not among the
first COUNT training peptides of seed 0 (20,000 if it is not given). The row "drawn" is what random
peptides give that meet the same demands.
"""

import csv
import sys
from pathlib import Path

from data.tasks.amino_acids import variety
from data.tasks.peptides import PeptidesTask


def main(file: str, count: str = "20000") -> None:
    """Prints a table."""
    with Path(file).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or "drawn" not in rows[0]:
        raise ValueError(f"{file}: this is no answers.csv of the peptides task")
    train = PeptidesTask().open(0, None, test=False).train
    known = [train[i].residues for i in range(int(count))]
    modes = [name.removeprefix("exact_") for name in rows[0] if name.startswith("exact_")]
    groups = {"drawn": [row["drawn"] for row in rows]}
    for mode in modes:
        right = [row for row in rows if float(row[f"exact_{mode}"]) == 1]
        groups[f"right, {mode}"] = [row[f"answer_{mode}"] for row in right]
    print(f"{'':34}{'peptides':>9}{'distinct':>10}{'identity':>10}{'new':>10}")
    for name, peptides in groups.items():
        if len(peptides) > 1:
            found = variety(peptides, known)
            shares = "".join(f"{100 * value:8.2f} %" for value in found)
            print(f"{name:34}{len(peptides):9}{shares}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
