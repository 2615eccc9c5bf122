"""--nojit runs a command without jit, and only that command; flags may have hyphens."""

import importlib
import sys
from pathlib import Path

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


def test_hyphens_are_underscores_in_names_alone():
    values = flags.FlagValues()
    flags.DEFINE_integer("batch_size", 1, "", flag_values=values)
    flags.DEFINE_string("config", "", "", flag_values=values)
    flags.DEFINE_string("some_text", "", "", flag_values=values)
    flags.DEFINE_boolean("early_stop", True, "", flag_values=values)
    given = {
        "--batch-size=3": "--batch_size=3",
        "-batch-size=3": "-batch_size=3",
        "--noearly-stop": "--noearly_stop",
        "--no-early-stop": "--noearly_stop",
        "--no-batch-size": "--no-batch-size",
        "--some-text=a-b\n--batch-size": "--some_text=a-b\n--batch-size",
        "--no-such=1": "--no-such=1",
        "--config.data.on-error=a-b": "--config.data.on_error=a-b",
        "--config.batch-size": "--config.batch_size",
        "a-b": "a-b",
        "--early-stop": "--early_stop",
        "--some-text": "--some_text",
        "--batch-size": "--batch-size",  # the value of the flag before it
        "--": "--",
        "--batch-size=4": "--batch-size=4",
    }
    assert cli.with_underscores(["main", *given], values) == ["main", *given.values()]


@pytest.mark.parametrize(
    ("module", "argument", "said"),
    [
        ("sample.main", "--batch-size=0", "flag --batch-size=0"),
        ("scripts.convert", "--shard-bytes=0", "flag --shard-bytes=0"),
        ("sample.main", "--thinking=x", "flag --thinking=x: expected true or false"),
        ("sample.main", "--max_step=3", "Did you mean: max-steps"),
        ("sample.main", "there", "unexpected argument 'there': a text with spaces needs quotes"),
        ("sample.main", "--seed=x", "flag --seed=x: expected a whole number"),
        ("sample.main", "--top-p=x", "flag --top-p=x: expected a number"),
    ],
)
def test_commands_take_hyphens(module, argument, said, capsys):
    assert importlib.import_module(module).main(["main", argument]) == 2
    assert said in capsys.readouterr().err


def test_an_error_does_not_steer_a_terminal(capsys):
    assert cli.fail(ValueError("model\x1b]0;mine\x07.\u202enorm\n  missing")) == 2
    assert capsys.readouterr().err == "error: model\ufffd]0;mine\ufffd.\ufffdnorm missing\n"


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections opens a config with it
def test_a_config_that_is_not_there_is_named(tmp_path, capsys):
    arguments = [f"--config={tmp_path}/nope.py", f"--workdir={tmp_path}/run"]
    assert importlib.import_module("train.main").main(["main", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/nope.py: no such file\n"


def test_closed_streams_are_empty(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):  # as after <&- in a shell
        monkeypatch.setattr(sys, name, None)
    main = importlib.import_module("sample.main").main
    assert main(["main", "--checkpoint=nowhere"]) == 2
    assert main(["main", "--help"]) == 0
    assert sys.stdin.read() == ""
    for name in ("stdin", "stdout", "stderr"):
        getattr(sys, name).close()


def test_every_command_parses_its_flags_here():
    root = Path(__file__).parents[2]
    files = [f for room in ("sample", "train", "scripts") for f in (root / room).rglob("*.py")]
    commands = {f: text for f in files if "main(sys.argv)" in (text := f.read_text())}
    assert len(commands) > 10
    assert [str(f) for f, text in commands.items() if "run(values, " not in text] == []
