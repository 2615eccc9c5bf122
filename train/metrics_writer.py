"""Where a run's figures go: metrics.jsonl, TensorBoard events and the progress bar."""

import json
from pathlib import Path

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from diffusiongemma.formats.atomic_folder import write_file


class MetricsWriter:
    """Writes each step's figures to workdir/metrics.jsonl and to TensorBoard events in workdir/tb.

    A run that goes on from `step` drops the lines of later steps, which it will write again. Of
    several processes, the first writes.
    """

    def __init__(self, workdir: Path, step: int):
        self.last = None
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines(keepends=True):
                # A killed run may leave half a line.
                if line.endswith("\n") and json.loads(line)["step"] <= step:
                    kept.append(line)
            write_file(path, "".join(kept).encode())
        self.last = json.loads(kept[-1]) if kept else None
        self._file = path.open("a")
        self._events = SummaryWriter(str(workdir / "tb"), purge_step=step + 1 if step else None)

    def write(self, step: int, figures: dict[str, float]) -> None:
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        for name, value in figures.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        if not self._writes:
            return
        self._file.close()
        self._events.close()


def progress_bar(total: int, done: int, title: str) -> tqdm:
    """A bar on stderr with time left; rates count examples by the caller's postfix.

    Of several processes, the first shows it.
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
