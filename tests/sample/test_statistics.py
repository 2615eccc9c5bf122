import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sample.statistics import Statistics, comparison, peak_memory, summary
from sample.timing import Clock


def clock(**seconds: float) -> Clock:
    made = Clock()
    made.seconds.update(seconds)
    made.compile_seconds = 3.0
    return made


@pytest.fixture
def diffusion() -> Statistics:
    """Three answers of one, two and one canvases, in two batches."""
    statistics = Statistics()
    statistics.add(
        np.array([[10, 0], [4, 6]]),
        np.array([[7, 0], [16, 4]]),
        16,
        clock(prefill=0.5, denoise=1.5, commit=0.25),
    )
    statistics.add(np.array([[4]]), np.array([[9]]), 4, clock(prefill=0.25, denoise=0.5))
    return statistics


@pytest.fixture
def autoregressive() -> Statistics:
    statistics = Statistics()
    statistics.add(np.array([[20], [12]]), np.array([[20], [12]]), 20, clock(prefill=1, decode=2))
    return statistics


def test_sums_by_hand(diffusion, autoregressive):
    assert diffusion.figures() == {
        "prompts": 3,
        "tokens": 36,
        "steps": 24,
        "forward_passes": 25,  # one canvas was committed
        "effective_steps": pytest.approx((70 + 64 + 24 + 36) / 36),
        "tokens_per_forward": pytest.approx(36 / 25),
        "seconds": 2.25,
        "tokens_per_second": 16,
        "seconds_per_step": 2.0 / (10 + 6 + 4),
        "prefill_seconds": 0.75,
        "compile_seconds": 6,
    }
    got = autoregressive.figures()
    assert got["forward_passes"] == got["tokens"] == 32 and got["tokens_per_forward"] == 1
    assert got["seconds_per_step"] == 0.1 and got["tokens_per_second"] == 16


def test_one_line(diffusion, autoregressive):
    assert summary(diffusion.figures()).startswith(
        "36 tokens, 24 steps, 5.4 effective steps, TPF 1.44, 16.0 tokens/s, prefill 0.75 s, "
        "compilation 6.0 s, peak "
    )
    assert "effective" not in summary(autoregressive.figures(), True)


def test_both_modes_side_by_side(diffusion, autoregressive):
    assert comparison(diffusion.figures(), autoregressive.figures()).splitlines() == [
        "| | diffusion | autoregressive |",
        "|---|---|---|",
        "| prompts | 3 | 2 |",
        "| tokens | 36 | 32 |",
        "| forward passes | 25 | 32 |",
        "| effective denoising steps | 5.4 |  |",
        "| tokens per forward | 1.44 | 1.00 |",
        "| seconds | 2.25 | 2.00 |",
        "| tokens/s | 16.0 | 16.0 |",
        "| ms a step | 100.00 | 100.00 |",
        "",
        "r = 1.00, the cost of a denoising step over that of an autoregressive one.",
    ]


def test_peak_memory_is_the_process():
    told = Path("/proc/self/status").read_text()
    kind, peak = peak_memory()
    if kind == "host":
        assert peak == pytest.approx(int(re.search(r"VmHWM:\s+(\d+) kB", told)[1]) * 1024, rel=0.05)


def test_compilation_is_kept_apart():
    @jax.jit
    def slow_to_compile(x):
        for _ in range(200):
            x = jnp.sin(x) @ x
        return x

    x = jnp.ones((4, 4))
    begin = time.perf_counter()
    with Clock() as clock:
        clock.lap("first", slow_to_compile(x))
        elapsed = time.perf_counter() - begin
        compiled = clock.compile_seconds
        clock.lap("second", slow_to_compile(x))
    assert compiled == clock.compile_seconds > 0.02
    assert 0 <= clock.seconds["first"] <= elapsed - compiled
    assert set(clock.seconds) == {"first", "second"}
