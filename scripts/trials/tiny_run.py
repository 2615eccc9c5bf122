"""The tiny training that trials disturb, and what is the same if nothing was lost."""

import functools
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import jax

from files.staging import is_staging
from scripts.trials.processes import Ended, Running, call_command
from train.metrics_log import METRICS, read_lines
from train.workdir import LOCK

STEPS = 12
CONFIG = f"""
from configs import base

def get_config():
    config = base.get_config()
    config.preset = "tiny"
    config.overrides = dict(vocab_size=1024, layer_types=("full",), max_length=210)
    config.steps, config.batch_size, config.loss.noise_draws = {STEPS}, 1, 1
    config.loss.self_conditioning = 0.0
    config.mesh.data = 1
    config.log_every, config.checkpoint_every, config.eval.every = 1, 2, 0
    return config
"""
HELD = r"another training, process \d+ on host \S+ since [-\d]+ [:\d]+ UTC, writes here"


class Undisturbed(NamedTuple):
    """The run that nothing has disturbed.

    Attributes:
      workdir: its folder.
      seconds: the processor time that it took, with its programs compiled before.
    """

    workdir: Path
    seconds: float


@functools.cache
def undisturbed(shared: Path) -> Undisturbed:
    """The undisturbed run in a folder that trials share; it is made once."""
    folder = shared / "undisturbed"
    for name in ("compiles", "run"):  # the first one compiles, all others read what it kept
        ended = train(folder / f"{name}-output", shared, folder / name)
        if ended.status or ended.crashed:
            raise RuntimeError(f"the undisturbed run fails: {ended.last}")
    return Undisturbed(folder / "run", ended.seconds)


def start_training(output: Path, shared: Path, workdir: Path) -> Running:
    """Starts the tiny run, or resumes it."""
    config = shared / "config.py"
    if not config.exists():
        config.write_text(CONFIG)
    flags = f"--config={config}", f"--workdir={workdir}"
    return Running(output, _call_with_cache, shared / "compiled", flags)


def train(output: Path, shared: Path, workdir: Path) -> Ended:
    """Runs or resumes the tiny run to its end."""
    return start_training(output, shared, workdir).wait()


def _call_with_cache(cache: Path, flags: tuple[str, ...]) -> int:
    """Calls train.main with a folder of compiled programs, in which all of them are kept."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return call_command("train.main", flags)


def leftovers(folder: Path) -> list[str]:
    """What is in a folder and its subfolders that should not outlive the process that made it."""
    walk = os.walk(folder)  # not rglob, which fails if a folder goes while it looks
    paths = (Path(home, name) for home, folders, files in walk for name in folders + files)
    found = [path for path in paths if not path.is_symlink()]
    names = {str(p.relative_to(folder)): p.name for p in found}
    return sorted(p for p, n in names.items() if is_staging(n) or "tmp" in n or n == LOCK)


def checkpoints(workdir: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdecimal())


def hashes(folder: Path) -> dict[str, str]:
    """A checksum of each file of a folder, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def half_written(workdir: Path, right: Path) -> str:
    """What is half-written after a kill: a model that is there must be whole."""
    model = workdir / "model"
    if model.exists() and hashes(model) != hashes(right / "model"):
        return "model/ is there and not whole"
    return ""


def difference(workdir: Path, right: Path) -> str:
    """What tells a finished run from the undisturbed one; "" if it is the same to the bit."""
    if found := leftovers(workdir):
        return f"left behind: {', '.join(found[:5])}"
    for name in ("model",):
        if hashes(workdir / name) != hashes(right / name):
            return f"{name}/ differs"
    if _figures(workdir) != _figures(right):
        return f"{METRICS} differs"
    if checkpoints(workdir) != checkpoints(right):
        return f"the checkpoints are {checkpoints(workdir)}, not {checkpoints(right)}"
    names = [sorted(path.name for path in folder.iterdir()) for folder in (workdir, right)]
    return "" if names[0] == names[1] else f"it holds {names[0]}, not {names[1]}"


def _figures(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without times."""
    read = [figures for _, figures in read_lines(workdir / METRICS)]
    return [{k: v for k, v in figures.items() if k != "seconds"} for figures in read]
