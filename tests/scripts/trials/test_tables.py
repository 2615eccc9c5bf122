"""Every bad input of the tables is refused in one line that says what is wrong."""

import pytest

from scripts.trials.bad_input import BadInput
from scripts.trials.bad_inputs import BAD_INPUTS
from scripts.trials.bombs import BOMBS
from scripts.trials.hostile_folders import HOSTILE_FOLDERS
from scripts.trials.tables import TABLES
from scripts.trials.trial import Verdict

TRIALS = [
    pytest.param(kind, name, id=f"{kind.name}: {name}")
    for kind, rows in zip(TABLES, (BAD_INPUTS, HOSTILE_FOLDERS, BOMBS), strict=True)
    for name in [row.name for row in rows]
]


@pytest.mark.parametrize("rows", [BAD_INPUTS, HOSTILE_FOLDERS, BOMBS])
def test_names_are_unique(rows: list[BadInput]):
    assert len({row.name for row in rows}) == len(rows)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize(("kind", "name"), TRIALS)
def test_it_is_refused_in_one_line(kind, name, shared, tmp_path):
    trial = next(trial for trial in kind.trials(0, shared) if trial.name == name)
    outcome = trial.run(tmp_path)
    assert outcome.verdict == Verdict.REFUSED, outcome
