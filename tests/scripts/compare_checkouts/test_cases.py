"""The times of two checkouts, from sides that only answer."""

from collections.abc import Iterator

from scripts.compare_checkouts import cases


class Timed:
    """Answers with given seconds in turn."""

    def __init__(self, *seconds: float):
        self._seconds: Iterator[float] = iter(seconds)

    def ask(self, name: str) -> dict[str, float]:
        return {"seconds": next(self._seconds)}


def test_times_are_medians_and_ratios_of_turns():
    # Two calls of each step are not counted.
    then = Timed(9, 9, 0.001, 0.002, 0.004, 9, 9, 0.1, 0.1, 0.1)
    now = Timed(9, 9, 0.002, 0.002, 0.002, 9, 9, 0.05, 0.2, 0.1)
    denoise, train = cases.times(then, now, 3)
    assert denoise == "| denoising step | 2.00 | 2.00 | 1.000 [0.750, 1.500] | 2.000 |"
    assert train == "| training step | 100.00 | 100.00 | 1.000 [0.750, 1.500] | 0.500 |"
