"""Writes a page that replays recorded denoising, from files of records, answers or other pages.

    python -m sample.page --from=ANSWERS.jsonl --page=FILE.html
    python -m sample.page --from=before.html --from=after.html --page=both.html

The page is one file that opens from disk and asks nothing of a network. The flag --page of
sample.main and train.evaluate writes pages with tokens, candidates and entropies. Answers that
sample.main --out=ANSWERS.jsonl --trajectory wrote have the text of each step, and no more.
"""

import sys
from pathlib import Path

from absl import flags

from files.printable import tell
from sample import cli
from sample.page.read import read_records
from sample.page.write import check_page, write_and_say


def define_flags() -> flags.FlagValues:
    """Defines all flags, in a set of their own."""
    values = flags.FlagValues()
    help = "File to read: JSON records, answers with drafts, or a page. It may be given repeatedly."
    flags.DEFINE_multi_string("from", [], help, flag_values=values)
    flags.DEFINE_string("page", None, "FILE.html to write.", flag_values=values)
    return values


def main(argv: list[str]) -> int:
    """Runs the command; returns its exit status."""
    values = define_flags()
    return cli.run(values, lambda: _run(values), argv, __doc__)


def _run(values: flags.FlagValues) -> None:
    files = values["from"].value
    if not files or not values.page:
        raise ValueError("--from=FILE and --page=FILE.html are needed")
    path = Path(values.page)
    check_page(path)
    records = [record for file in files for record in read_records(Path(file))]
    tell(write_and_say(path, records))


if __name__ == "__main__":
    sys.exit(main(sys.argv))
