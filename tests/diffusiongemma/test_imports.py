"""What an import loads, each in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("orbax", "tensorstore", "safetensors", "jax.experimental.pallas")


def loaded(statement: str) -> set[str]:
    """The heavy packages that a statement loads."""
    program = f"import sys\n{statement}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import diffusiongemma.config",
        "import diffusiongemma.transformer",
        "from diffusiongemma import DiffusionGemma, ModelConfig",
    ],
)
def test_the_network_loads_no_checkpoint_library_and_no_pallas(statement):
    assert not loaded(statement)


def test_checkpoints_load_theirs():
    """The test above would see these packages if they were loaded."""
    load = "from diffusiongemma import load_checkpoint"
    assert not loaded(load)
    assert {"safetensors"} <= loaded(f"{load}\nload_checkpoint('checkpoints/base')")
    assert "jax.experimental.pallas" in loaded("import diffusiongemma.kernels.group_rows")


def test_the_packages_names():
    import diffusiongemma

    assert set(diffusiongemma.__all__) <= set(dir(diffusiongemma))
    for name in diffusiongemma.__all__:
        assert getattr(diffusiongemma, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'diffusiongemma' has no attribute 'Gemma'"):
        _ = diffusiongemma.Gemma
