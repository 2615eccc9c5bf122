"""Kinds of trials that come from a table of bad inputs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scripts.trials import bombs, hostile_demands
from scripts.trials.bad_input import BadInput
from scripts.trials.bad_inputs import BAD_INPUTS
from scripts.trials.bombs import BOMBS
from scripts.trials.hostile_demands import HOSTILE_DEMANDS
from scripts.trials.hostile_folders import HOSTILE_FOLDERS
from scripts.trials.hostile_media import HOSTILE_MEDIA
from scripts.trials.hostile_records import HOSTILE_RECORDS
from scripts.trials.refusals import base, reader, refused, tiny
from scripts.trials.trial import Kind, Trial, shuffled


def table(
    name: str,
    rows: Sequence[BadInput],
    checkpoint: Callable[[Path], Path],
    most: float = float("inf"),
) -> Kind:
    """A kind with a trial for each row of a table.

    Args:
      name: the kind's name.
      rows: the table.
      checkpoint, most: as refusals.refused takes them.
    """

    def trials(seed: int, shared: Path) -> Iterator[Trial]:
        for bad in shuffled(name, seed, tuple(rows)):

            def run(folder: Path, bad: BadInput = bad):
                return refused(bad, checkpoint, shared, folder, most)

            yield Trial(bad.name, run)

    return Kind(name, len(rows), trials)


TABLES = (
    table("bad inputs", BAD_INPUTS, tiny),
    table("hostile folders", HOSTILE_FOLDERS, base),
    table("bombs", BOMBS, base, bombs.MOST_SECONDS),
)
# Their rows have tests of their own, which run them in one process.
HOSTILE_TABLES = (
    table("hostile media", HOSTILE_MEDIA, reader),
    table("hostile demands", HOSTILE_DEMANDS, tiny, hostile_demands.MOST_SECONDS),
    table("hostile records", HOSTILE_RECORDS, tiny),
)
