"""The file metrics.jsonl of a run that goes on."""

import json

import pytest

from train.metrics_writer import MetricsWriter

FILE = "".join(f"{json.dumps({'step': step, 'loss': step / 10})}\n" for step in (2, 4, 4, 6))


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (3, [2]), (4, [2, 4, 4]), (6, [2, 4, 4, 6]), (9, [2, 4, 4, 6])]
)
def test_lines_of_later_steps_and_half_a_line_are_removed(tmp_path, step, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text(FILE + '{"step": 8, "lo')
    writer = MetricsWriter(tmp_path, step)
    assert writer.last == ({"step": kept[-1], "loss": kept[-1] / 10} if kept else None)
    writer.write(step + 1, {"loss": 0.5})
    # Each line is in the file at once.
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [*kept, step + 1]
    writer.close()


def test_a_new_run_begins_a_file(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    assert writer.last is None
    writer.write(1, {"loss": 2.0, "seconds": 1.0})
    writer.close()
    found = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(found) == {"step": 1, "loss": 2.0, "seconds": 1.0}
    assert list((tmp_path / "tb").iterdir())


def test_a_last_line_that_lacks_only_its_end_stays(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(FILE.rstrip("\n"))
    MetricsWriter(tmp_path, 9).close()
    assert path.read_text() == FILE


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{}", "expected figures such as"),
        ("[]", "expected figures such as"),
        ('{"step": "3"}', "expected figures such as"),
        ('{"step": 3, "loss": "low"}', "expected figures such as"),
        ("loss", "not JSON: Expecting value: delete the line to go on"),
        ("[" * 100_000, "not JSON: its brackets are nested too deeply"),
    ],
    ids=range(6),
)
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path, line, why):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{FILE}{line}\n{FILE}")
    with pytest.raises(ValueError, match=f"^{path}, line 5: {why}"):
        MetricsWriter(tmp_path, 4)
    assert path.read_text() == f"{FILE}{line}\n{FILE}"


def test_an_infinite_norm_of_gradients_stays(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "grad_norm": Infinity}\n')
    writer = MetricsWriter(tmp_path, 1)
    writer.close()
    assert writer.last == {"step": 1, "grad_norm": float("inf")}
