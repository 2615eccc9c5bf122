"""Two processes with four devices each train like one, and their checkpoints go on in one."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.runs import environment_for, finish, start

CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.preset = "tiny"
    config.overrides = dict(vocab_size=1024, layer_types=("full",))
    config.data = dict(task="sudoku", prompt_length=40, box=2, clues="6-8")
    config.loss.canvas_size = 24
    config.steps, config.batch_size = 4, 8
    config.log_every, config.checkpoint_every = 1, 2
    config.eval.every = 0
    config.mesh.update(data=2, fsdp=2, expert=2)
    return config
"""


def losses(workdir: Path) -> list[float]:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def with_devices(environment: dict[str, str], count: int) -> dict[str, str]:
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", f"device_count={count}")
    assert flags.endswith(f"={count}")
    return environment | {"XLA_FLAGS": flags}


def test_two_processes_train_as_one_does(tmp_path):
    environment = environment_for(tmp_path, CONFIG)
    (tmp_path / "xla").mkdir()
    one, two = tmp_path / "one", tmp_path / "two"
    status, line = finish(start(one, with_devices(environment, 8)))
    assert status == 0, line

    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"

    def run(*more: str) -> None:
        flags = f"--coordinator={address}", "--num_processes=2", *more
        both = [
            start(two, with_devices(environment, 4), *flags, f"--process_id={i}") for i in range(2)
        ]
        for status, line in map(finish, both):
            assert status == 0, line

    run()
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    assert not (two / "model").exists()

    # What two processes saved goes on in one, and is a checkpoint like any other.
    (two / "checkpoints" / "4").rename(tmp_path / "aside")
    status, line = finish(start(two, with_devices(environment, 8)))
    assert status == 0, line
    np.testing.assert_allclose(losses(two), losses(one), rtol=1e-4)
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    for name, tensor in first.items():
        np.testing.assert_allclose(second[name], tensor, atol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator=localhost:1"], "--num_processes and --process_id are given together"),
        (["--config.mesh.data=3"], "= 6 does not divide batch_size 8"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, flags, message):
    environment = environment_for(tmp_path, CONFIG)
    status, line = finish(start(tmp_path / "run", environment, *flags))
    assert status == 2 and message in line
    assert not (tmp_path / "run").exists()
