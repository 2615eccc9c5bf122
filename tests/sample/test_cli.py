"""--nojit runs a command without jit, and only that command."""

import jax
import jax.numpy as jnp
import pytest
from absl import flags

from sample import cli


@pytest.mark.parametrize(
    ("arguments", "compiled"), [([], True), (["--jit"], True), (["--nojit"], False)]
)
def test_nojit_shows_numbers_inside_a_compiled_function(arguments, compiled):
    values, traced = flags.FlagValues(), []
    cli.define_jit(values)

    @jax.jit
    def double(x):
        traced.append(isinstance(x, jax.core.Tracer))
        return 2 * x

    def main() -> int:
        return int(double(jnp.int32(3))) - 5

    assert cli.run(values, main, ["main", *arguments], "") == 1
    assert traced == [compiled]
    assert not jax.config.jax_disable_jit


def test_commands_without_the_flag_run_compiled(capsys):
    values = flags.FlagValues()
    seen = []
    assert cli.run(values, lambda: seen.append(jax.config.jax_disable_jit), ["main"], "") == 0
    assert seen == [False]
    assert cli.run(values, lambda: None, ["main", "--nojit"], "") == 2
    assert "nojit" in capsys.readouterr().err


def test_what_the_environment_turned_off_stays_off():
    values, seen = flags.FlagValues(), []
    cli.define_jit(values)
    with jax.disable_jit():
        cli.run(values, lambda: seen.append(jax.config.jax_disable_jit), ["main", "--jit"], "")
    assert seen == [True]
