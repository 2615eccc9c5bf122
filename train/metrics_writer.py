"""The places that show a run's figures: metrics.jsonl, TensorBoard events and a progress bar."""

import json
from pathlib import Path

import jax
from tqdm import tqdm

from files.whole_file import GrowingFile, write_file
from train.event_file import EventFile
from train.metrics_log import METRICS, read_lines


class MetricsWriter:
    """Writes figures to workdir/metrics.jsonl and to TensorBoard events in workdir/tb.

    With several processes, only the first one writes.

    Args:
      workdir: the run's folder.
      step: the step that the run goes on from, 0 for a new run. Lines of later steps are removed
        from the file, because the run will write them again.

    Attributes:
      last: the last line that stayed in the file, {"step", and figures}; None if there is none.

    Raises:
      ValueError: a line of metrics.jsonl is damaged.
      OSError: a file cannot be written.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        self.last: dict[str, float] | None = None
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / METRICS
        lines = read_lines(path) if path.exists() else []
        kept = [(text, figures) for text, figures in lines if figures["step"] <= step]
        if path.exists():
            write_file(path, "".join(text for text, _ in kept).encode())
        self.last = kept[-1][1] if kept else None
        self._events = EventFile(workdir / "tb", purge_step=step + 1 if step else None)
        self._file = GrowingFile(path)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Writes the figures of a step at once; raises OSError if the disk is full, for example."""
        if not self._writes:
            return
        self._file.add(json.dumps({"step": step, **figures}).encode() + b"\n")
        self._events.write(step, figures)

    def close(self) -> None:
        """Closes the files."""
        if not self._writes:
            return
        self._file.close()
        self._events.close()


def progress_bar(total: int, done: int, title: str) -> tqdm:
    """A progress bar on stderr that counts steps and shows the time left.

    With several processes, only the first one shows it.

    Args:
      total: number of steps of the run.
      done: number of steps done before.
      title: the text before the bar.
    """
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        unit="step",
        mininterval=1.0,
        maxinterval=5,
        disable=jax.process_index() > 0,
    )
