"""Trains a run. If it is started again with the same workdir, it goes on where it stopped.

    python -m train.main --config=configs/sudoku.py --workdir=runs/sudoku --config.batch_size=8

Any field of the config can be given on the command line, even if the config file does not name it.

To train on several hosts, run the same command on each. On clusters whose environment JAX knows,
such as Slurm and GKE, add --distributed. Elsewhere, add --coordinator=HOST:PORT --num_processes=N
--process_id=I.
"""

import sys
from pathlib import Path

import jax
from absl import flags, logging
from ml_collections import config_flags

from sample import cli, compile_cache
from sample.config_file import config_fields
from train.config import DataConfig, RunConfig
from train.loop import train


def define_distributed(values: flags.FlagValues) -> None:
    """Defines the flags of start_distributed."""
    help = "Train on several hosts of a cluster that JAX knows."
    flags.DEFINE_boolean("distributed", False, help, flag_values=values)
    help = "Address of process 0, HOST:PORT."
    flags.DEFINE_string("coordinator", None, help, flag_values=values)
    for name, help in (
        ("num_processes", "Number of processes that train together."),
        ("process_id", "Number of this process, from 0."),
    ):
        flags.DEFINE_integer(name, None, help, lower_bound=0, flag_values=values)


def start_distributed(values: flags.FlagValues) -> None:
    """Joins the other processes, if the flags say that there are any.

    Raises:
      ValueError: some of the flags that belong together are missing.
    """
    given = (values.coordinator, values.num_processes, values.process_id)
    if all(value is not None for value in given):
        jax.distributed.initialize(*given)
    elif any(value is not None for value in given):
        raise ValueError("--coordinator, --num_processes and --process_id are given together")
    elif values.distributed:
        jax.distributed.initialize()


def define_config(values: flags.FlagValues, argv: list[str]) -> None:
    """Defines the flags --config=FILE and --config.FIELD=VALUE.

    The names and types of the fields are checked later, by RunConfig.
    """
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file of the run, such as configs/sudoku.py.",
        values,
        lock_config=False,
        accept_new_attributes=True,
        sys_argv=cli.with_underscores(argv, values),
    )


def main(argv: list[str]) -> int:
    """Runs the command. Returns its exit status: 0, or 2 for an error that the user can correct."""
    values = flags.FlagValues()
    define_config(values, argv)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    define_distributed(values)
    cli.define_jit(values)

    def run() -> None:
        if values.config is None or not values.workdir:
            raise ValueError("--config=FILE and --workdir=DIR are needed")
        logging.set_verbosity(logging.FATAL)  # orbax would log every file and error
        compile_cache.enable()
        start_distributed(values)
        fields = config_fields(values)
        config = RunConfig.from_dict(fields)
        for name in DataConfig.unused(fields["data"]):
            print(f"data.{name} is not used: task {config.data.name} has no such setting")
        if not values.jit and config.mesh.size > 1:
            sizes = " ".join(f"--config.mesh.{axis}=1" for axis in ("data", "fsdp", "expert"))
            raise ValueError(f"--nojit runs on one device: give {sizes}")
        if not jax.distributed.is_initialized():
            # On a CPU, this makes as many devices as the mesh needs. On other backends it changes
            # nothing, because their devices are real.
            jax.config.update("jax_num_cpu_devices", config.mesh.size)
        print(f"saved {train(config, Path(values.workdir))}")

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
