"""Checkpoints of a run: what they hold, and what is refused."""

import collections
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train import checkpointer
from train.checkpointer import Checkpointer
from train.damage import advice, fault_in
from train.optimizer import OptimizerConfig, make_optimizer
from train.step import TrainState, init_state


def state(step: int, size: int = 3, mean: bool = False) -> TrainState:
    params = {"kernel": jnp.arange(size, dtype=jnp.float32) + step}
    ema = {"kernel": params["kernel"] / 2} if mean else None
    return TrainState(jnp.int32(step), params, {"moment": params["kernel"] * 3}, ema)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpointer(tmp_path, 2, {"dtype": "float32"})
    yield opened
    opened.close()


@pytest.mark.parametrize("mean", [False, True])
def test_a_saved_state_comes_back(checkpoints, tmp_path, mean):
    assert checkpoints.latest() is None
    for step in (1, 2, 3):
        checkpoints.save(state(step, mean=mean), {"position": step})
    found, data = checkpoints.restore(3, state(0, mean=mean))
    assert data == {"position": 3} and checkpoints.latest() == 3
    for a, b in zip(*map(jax.tree.leaves, (found, state(3, mean=mean))), strict=True):
        np.testing.assert_array_equal(a, b)
    checkpoints.close()
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == ["2", "3"]  # the latest two stay


def test_an_array_of_another_dtype_or_shape_is_refused(checkpoints):
    checkpoints.save(state(1), {})
    for kernel, shown in (
        (jnp.zeros(3, jnp.bfloat16), "bfloat16[3]"),
        (jnp.zeros(4), "float32[4]"),
    ):
        other = state(1)._replace(params={"kernel": kernel})
        with pytest.raises(ValueError, match=r": float32\[3\] where the run") as caught:
            checkpoints.restore(1, other)
        assert shown in str(caught.value)


def test_a_full_disk_is_noticed_before_anything_is_written(checkpoints, monkeypatch):
    usage = collections.namedtuple("Usage", "free")
    monkeypatch.setattr(checkpointer.shutil, "disk_usage", lambda _: usage(5 << 20))
    checkpoints.save(state(1), {})
    monkeypatch.setattr(checkpointer.shutil, "disk_usage", lambda _: usage(1 << 20))
    with pytest.raises(OSError, match=r"2 MiB needed, 1 free\); the one of step 1 is whole"):
        checkpoints.save(state(2), {})
    assert checkpoints.latest() == 1


def missing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("call", ["save", "wait_until_finished"])
def test_a_checkpoint_that_cannot_be_written_is_one_line(checkpoints, monkeypatch, tmp_path, call):
    """Orbax raises what TensorStore says, in `save` or, if it saves meanwhile, in the next call."""
    folder = tmp_path / "checkpoints"
    for kept in ("there is no earlier one", "the one of step 1 is whole"):

        def fail(*arguments: object, **options: object) -> None:
            raise ValueError(
                f"OUT_OF_RANGE:\n Failed writing {folder}/2/a: {'x' * 999} File too large"
            )

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, call, fail)
            with pytest.raises(OSError) as caught:
                checkpoints.save(state(2), {})
        assert caught.value.filename == str(folder)
        said = caught.value.strerror
        assert said.startswith("a checkpoint could not be saved (OUT_OF_RANGE: Failed writing 2/a:")
        assert f"x File too large); {kept}: see that the disk has room" in said
        assert "\n" not in said and len(said) < 400
        checkpoints.save(state(1), {})
        checkpoints._manager.wait_until_finished()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The workdir of a run with the checkpoints 1 and 2."""
    workdir = tmp_path_factory.mktemp("saved")
    opened = Checkpointer(workdir, 2, {})
    for step in (1, 2):
        opened.save(state(step, size=3000), {"position": step})
    opened.close()
    return workdir


@pytest.mark.parametrize(
    ("item", "damage"),
    [
        ("params/_METADATA", missing),
        ("optimizer/_METADATA", half),
        ("optimizer/manifest.ocdbt", missing),
        ("params/array_metadatas/process_0", empty),
        ("params/_sharding", half),
        ("params/ocdbt.process_0/d/*", empty),  # the arrays
        ("data/metadata", empty),
        ("model/metadata", half),
    ],
)
def test_what_is_damaged_is_found(saved, tmp_path, item, damage):
    folder = Path(shutil.copytree(saved / "checkpoints" / "2", tmp_path / "2"))
    assert fault_in(folder) == ""
    for file in folder.glob(item):
        damage(file)
    fault = fault_in(folder)
    assert fault.startswith(item.split("/")[0]) and "\n" not in fault and len(fault) <= 200


def test_a_damaged_checkpoint_is_told_in_one_line_with_the_one_that_is_whole(
    saved, tmp_path, capfd
):
    folder = Path(shutil.copytree(saved, tmp_path / "run")) / "checkpoints"
    for file in (folder / "2").glob("params/ocdbt.process_0/d/*"):
        empty(file)
    with (
        closing(Checkpointer(folder.parent, 2, {})) as opened,
        pytest.raises(ValueError, match="the newest checkpoint is damaged") as caught,
    ):
        opened.restore(opened.latest(), state(0, size=3000))
    line, remove = str(caught.value), f"rm -r {folder / '2'}"
    assert "\n" not in line and line.startswith(f"{folder / '2'}: ")
    assert capfd.readouterr().err == ""
    assert "that of step 1 is whole: to go on from it, remove what is damaged" in line
    assert line.endswith(f"({remove}) and start the run again")

    # What the line says is true.
    subprocess.run(remove.split(), check=True)
    with closing(Checkpointer(folder.parent, 2, {})) as opened:
        found, data = opened.restore(opened.latest(), state(0, size=3000))
        assert data == {"position": 1} and int(found.step) == 1


def test_what_is_said_if_older_checkpoints_are_damaged_too(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "run")) / "checkpoints"
    missing(folder / "2" / "data" / "metadata")
    said = advice(folder, [1, 2, 3], "gone")
    assert "that of step 1 is whole" in said and f"(rm -r {folder}/3 {folder}/2)" in said
    shutil.rmtree(folder / "1" / "params")
    said = advice(folder, [1, 2, 3], "gone")
    assert said.endswith("the older ones are damaged too: start again in a new --workdir")
    said = advice(folder, [3], "gone")
    assert said.endswith("(gone): there is no older one: start again in a new --workdir")


@pytest.mark.parametrize("name", ["adam", "adafactor", "muon"])
def test_many_layers_and_an_optimizers_state_come_back(checkpoints, name):
    """More than ten layers, whose numbers orbax orders as text, and a real optimizer's state."""
    layers = nnx.List(nnx.Linear(2, 3, rngs=nnx.Rngs(i)) for i in range(12))
    model = nnx.Dict(layers=layers)
    optimizer = make_optimizer(OptimizerConfig(name, 1e-3, 1e-4, 1), 10)
    _, first, _ = init_state(model, optimizer, ema=True)
    checkpoints.save(first._replace(step=jnp.int32(4)), {})
    found, _ = checkpoints.restore(4, first)
    for a, b in zip(*map(jax.tree.leaves, (found, first._replace(step=4))), strict=True):
        np.testing.assert_array_equal(a, b)
