"""The log of a run: means of figures, a loss that is not finite, and seconds after a restart."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from configs import base
from train import run_log
from train.config import RunConfig
from train.run_log import NonFiniteLoss, RunLog

CONFIG = RunConfig.from_dict(base.get_config().to_dict())


def figures(loss: float, accuracy: float = 0.5, answer: float = 1.0) -> dict[str, jnp.ndarray]:
    """A share `answer` of the tokens belongs to answers. Of these, the share `accuracy` is right.

    The tokens of the fill are all right.
    """
    found = {
        "loss": loss,
        "denoise_accuracy": answer * accuracy + 1 - answer,
        "answer_tokens": answer,
        "answer_right": answer * accuracy,
        "fill_tokens": 1 - answer,
        "fill_right": 1 - answer,
    }
    return {name: jnp.float32(value) for name, value in found.items()}


def lines(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as the log reads it."""
    now = [100.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    return now


def test_means_are_over_the_steps_since_the_last_line(tmp_path, clock, capsys):
    log = RunLog(tmp_path, 0, CONFIG, lambda: None)
    log.add(1, figures(4, 0.25, 0.25))
    log.add(2, figures(2, 0.75, 0.75))
    clock[0] += 8
    log.write()
    log.add(3, figures(1))
    log.write()
    log.close()
    assert lines(tmp_path) == [
        {
            "step": 2,
            "loss": 3,
            "denoise_accuracy": 0.8125,
            # The second step has three times as many tokens of answers as the first.
            "answer_accuracy": 0.625,
            "fill_accuracy": 1,
            "seconds": 8,
        },
        {"step": 3, "loss": 1, "denoise_accuracy": 0.5, "answer_accuracy": 0.5, "seconds": 8},
    ]
    assert "loss 1.0000, 50.0 % of answer tokens right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "latest", "message"),
    [
        ("nan", 4, "the loss of step 6 is nan (the newest checkpoint is of step 4): try a lower"),
        ("inf", None, "the loss of step 6 is inf (there is no checkpoint): try a lower"),
    ],
)
def test_a_loss_that_is_not_finite_names_its_step_and_the_checkpoint(
    tmp_path, bad, latest, message
):
    log = RunLog(tmp_path, 4, CONFIG, lambda: latest)
    for step, loss in ((5, 1.0), (6, float(bad)), (7, 1.0)):
        log.add(step, figures(loss))
    with pytest.raises(NonFiniteLoss) as caught:
        log.write()
    log.close()
    assert str(caught.value).startswith(message)
    assert lines(tmp_path) == []


def test_seconds_go_on_after_a_restart(tmp_path, clock, capsys):
    log = RunLog(tmp_path, 0, CONFIG, lambda: None)
    for step in (1, 2, 3):
        clock[0] += 5
        log.add(step, figures(1))
        log.write()
    log.close()
    clock[0] = 7.0  # another process, whose clock began anew
    log = RunLog(tmp_path, 2, CONFIG, lambda: 2)
    log.add(3, figures(9))
    clock[0] += 1
    log.write()
    log.evaluated(3, {"eval/exact": 0.5}, "1 2 3")
    log.close()
    assert [line["seconds"] for line in lines(tmp_path)] == [5, 10, 11, 11]
    assert lines(tmp_path)[2]["loss"] == 9
    assert lines(tmp_path)[3] == {"step": 3, "eval/exact": 0.5, "seconds": 11}
    assert "step 3, an answer: 1 2 3" in capsys.readouterr().out
