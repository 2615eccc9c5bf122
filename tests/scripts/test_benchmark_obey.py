"""The benchmark of constraints, on a small vocabulary."""

import re

from scripts.benchmark_obey import main


def test_it_prints_its_figures(capsys):
    assert main(["b", "--fields=2", "--vocab=1024", "--canvas=8", "--width=8"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"2 fields, 1,024 tokens: .* \d+ states, \d+ edges", out)
    assert len(re.findall(r"[\d.]+ ms a step, \d+ MiB of temporary arrays", out)) == 2
