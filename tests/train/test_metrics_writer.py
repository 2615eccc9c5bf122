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
