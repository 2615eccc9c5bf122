"""Counts what came of trials, in a table, and lists the faults."""

from collections import Counter

from scripts.trials.trial import Kind, Outcome, Verdict

Outcomes = dict[str, list[tuple[str, Outcome]]]  # kind -> (the trial's name, what came of it)
HEADER = ("kind", "trials", "of", *Verdict)


def counts(kinds: list[Kind], outcomes: Outcomes) -> list[list[str]]:
    """The cells of the table: its header, a row for each kind, and the sum of all."""
    rows, whole = [], Counter()
    for kind in kinds:
        found = Counter(outcome.verdict for _, outcome in outcomes[kind.name])
        whole += found
        rows.append([kind.name, found.total(), kind.count, *(found[v] for v in Verdict)])
    total = sum(kind.count for kind in kinds)
    rows.append(["all", whole.total(), total, *(whole[v] for v in Verdict)])
    return [list(HEADER), *([str(cell) for cell in row] for row in rows)]


def markdown(kinds: list[Kind], outcomes: Outcomes) -> str:
    """The table in Markdown, with columns of one width, so that a terminal shows it well too."""
    cells = counts(kinds, outcomes)
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def faults(outcomes: Outcomes, seed: int) -> list[str]:
    """A line for each bad trial, and one with the command that does it again."""
    lines = []
    for kind, found in outcomes.items():
        for name, outcome in found:
            if outcome.verdict.bad:
                again = f'--seed={seed} --only="{kind}" --trial="{name}"'
                lines.append(f"{outcome.verdict.upper()} in {kind}, {name}: {outcome.said}")
                lines.append(f"    python -m scripts.torture {again}")
    return lines
