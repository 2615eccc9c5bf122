"""Every kind of trial goes well, and a fault is counted and listed and gives status 1."""

import pytest

from scripts import torture
from scripts.trials import hostile_http, processes
from scripts.trials.processes import Ended, Running
from scripts.trials.refusals import judge
from scripts.trials.registry import KINDS
from scripts.trials.tables import HOSTILE_TABLES, TABLES
from scripts.trials.trial import Kind, Outcome, Trial, Verdict


def test_a_trial_of_every_kind_goes_well(capsys, tmp_path):
    """Those of the tables, and hostile requests, have tests in trials/.

    With this seed, a training is killed while it writes its last checkpoint, a second one comes
    when the first one is at step 4, and a disk is full when a training has begun.
    """
    elsewhere = (*TABLES, *HOSTILE_TABLES, hostile_http.KIND)
    kinds = [kind.name for kind in KINDS if kind not in elsewhere]
    out = tmp_path / "table.md"
    flags = ["--minutes=0", "--seed=119", f"--only={','.join(kinds)}", f"--out={out}"]
    status = torture.main(["torture", *flags])
    said, told = capsys.readouterr()
    assert status == 0, said + told
    assert said == out.read_text()
    _, _, *rows = [line.strip("| ").split("|") for line in said.splitlines()]
    assert [[cell.strip() for cell in row][:2] for row in rows[:-1]] == [[k, "1"] for k in kinds]


def kinds_of(*verdicts: Verdict, counts: tuple[int, ...] = (2, 8)) -> list[Kind]:
    """Kinds whose trials all have these verdicts."""

    def make(name: str, count: int, verdict: Verdict) -> Kind:
        def trials(seed, shared):
            for i in range(count):
                yield Trial(str(i), lambda folder: Outcome(verdict, f"seed {seed}\x1b"))

        return Kind(name, count, trials)

    return [make(*x) for x in zip(("a", "b"), counts, verdicts, strict=True)]


def test_kinds_get_the_same_share(tmp_path):
    kinds = kinds_of(Verdict.RIGHT, Verdict.REFUSED)
    (tmp_path / "all").mkdir()
    outcomes = torture.torture(kinds, 3, 100, "", tmp_path / "all")
    assert {name: len(found) for name, found in outcomes.items()} == {"a": 2, "b": 8}
    (tmp_path / "first").mkdir()
    outcomes = torture.torture(kinds, 3, 0, "", tmp_path / "first")
    assert {name: len(found) for name, found in outcomes.items()} == {"a": 1, "b": 1}
    (tmp_path / "named").mkdir()
    outcomes = torture.torture(kinds[1:], 3, 100, "5", tmp_path / "named")
    assert [name for name, _ in outcomes["b"]] == ["5"]


@pytest.mark.parametrize("verdict", Verdict)
def test_a_fault_is_counted_listed_and_gives_status_1(verdict, monkeypatch, capsys):
    monkeypatch.setattr(torture, "KINDS", kinds_of(Verdict.RIGHT, verdict, counts=(1, 1)))
    status = torture.main(["torture", "--minutes=0", "--seed=7"])
    header, _, _, row, _, *listed = capsys.readouterr().out.splitlines()
    column = [cell.strip() for cell in header.split("|")].index(verdict)
    assert [cell.strip() for cell in row.split("|")][column] == "1"
    good = verdict in ("clear", "right", "refused", "not run")
    assert status == (0 if good else 1)
    again = '    python -m scripts.torture --seed=7 --only="b" --trial="0"'
    assert listed == ([] if good else [f"{verdict.upper()} in b, 0: seed 7\ufffd", again])


def test_a_trial_that_raises_is_a_fault(tmp_path):
    def fails(folder):
        raise RuntimeError("no")

    assert torture.attempt(Trial("x", fails), tmp_path / "t").verdict == Verdict.TRACEBACK


def test_no_such_kind(capsys):
    assert torture.main(["torture", "--only=nothing"]) == 2
    assert "no kind 'nothing': choose from kills in training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "err", "verdict"),
    [
        (2, ["warning: so", "error: x: no"], Verdict.REFUSED),
        (0, [], Verdict.SILENT),
        (2, ["error: something else"], Verdict.UNCLEAR),
        (1, ["error: x: no"], Verdict.UNCLEAR),
        (2, ["error: x: no", "bye"], Verdict.UNCLEAR),
        (2, ["error: first", "error: x: no"], Verdict.UNCLEAR),
        (2, ["error: x: no\x1b[2J"], Verdict.UNCLEAR),
        (1, ["Traceback (most recent call last):", "ValueError: x: no"], Verdict.TRACEBACK),
        (-11, ["error: x: no"], Verdict.TRACEBACK),
    ],
)
def test_only_one_clear_line_is_a_refusal(status, err, verdict):
    assert judge(Ended(status, False, "", err, 1.0), "x: no").verdict == verdict
    assert judge(Ended(status, True, "", err, 1.0), "x: no").verdict == Verdict.HANG


def raises() -> int:
    raise RuntimeError("no")


def sleeps() -> int:
    import time

    time.sleep(1000)
    return 0


def test_processes_are_seen_to_crash_to_hang_and_to_be_killed(tmp_path, monkeypatch):
    ended = Running(tmp_path / "raises", raises).wait()
    assert ended.crashed and ended.last == "RuntimeError: no" and not ended.hangs
    process = Running(tmp_path / "killed", sleeps)
    process.kill()
    assert process.wait().status == -9
    monkeypatch.setattr(processes, "IDLE", 2)
    monkeypatch.setattr(processes, "WAIT", 0.2)
    ended = Running(tmp_path / "hangs", sleeps).wait()
    assert ended.hangs and ended.seconds == float("inf")
