"""Google's own layout: an Orbax checkpoint of the Linen tree, in either of its two forms.

Nested, {"layer_0": {"attn": {"q_einsum": {"w": ...}}}}, or flat, where a module's path is one key
with a prefix, {"transformer/layer_0/attn/q_einsum": {"w": ...}}. The names of dense MLPs may end in
"/w" or not; vision's tensors are left aside. Such a checkpoint says nothing about the model's
constants: they are in a config.json in the folder, or named by whoever loads it.
"""

import re
from pathlib import Path

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats import orbax_tree
from diffusiongemma.formats.hf import CONFIG, config_json, read_config
from diffusiongemma.formats.tensor_tables import GOOGLE, GOOGLE_SKIPPED_PREFIXES, file_tensors
from diffusiongemma.formats.weights import (
    CheckpointError,
    Stored,
    Weights,
    assembled,
    layout,
    report,
    tensor_faults,
)

PREFIX = "transformer/"
DENSE = re.compile(r"((?:mlp2|self_conditioner/ffw)/(?:gating_einsum|linear))/w$")


def open_google(folder: Path, config: ModelConfig | None = None) -> Stored:
    """The checkpoint in a folder, its headers read and checked.

    Args:
      folder: Orbax's folder, with a config.json in it or not.
      config: the model's shape; None: that of the config.json.

    Raises:
      CheckpointError: no config; or everything that is missing, superfluous, misshapen or of an
        unknown dtype, together.
    """
    if config is None:
        if not (folder / CONFIG).exists():
            raise CheckpointError(
                f"{folder}: a checkpoint in Google's layout without a {CONFIG}: "
                "name the model's, or a preset"
            )
        config = read_config(folder / CONFIG)
    leaves = [
        (table_name("/".join(key)), leaf) for key, leaf in orbax_tree.open_tree(folder).items()
    ]
    leaves = [leaf for leaf in leaves if not leaf[0].startswith(GOOGLE_SKIPPED_PREFIXES)]
    found = [(name, *orbax_tree.header(leaf)) for name, leaf in leaves]
    expected = file_tensors(config, GOOGLE)
    report(folder, tensor_faults(expected, found))
    opened = dict(leaves)
    dtypes = {name: dtype for name, _, dtype in found}

    def read(name: str, at=...) -> np.ndarray:
        return orbax_tree.read_leaf(folder, opened[name][at])

    return Stored(folder, config, {name: expected[name] for name in opened}, dtypes, read)


def write_google(folder: Path, weights: Weights, *, flat: bool = False) -> None:
    """Writes the tree and a config.json into an empty folder.

    Args:
      folder: there, and empty.
      weights: what to write.
      flat: the form with the prefix, as Google publishes it, instead of the nested one.

    Raises:
      CheckpointError: weights that the layout has no place for; the layer scalars of encode and
        denoise are one tensor there, so they must be equal.
    """
    tensors = file_tensors(weights.config, GOOGLE)
    dtypes = layout(weights, tensors)
    config = config_json(weights, max(dtypes.values(), key=lambda dtype: dtype.itemsize))
    leaves = {}
    for name, tensor in tensors.items():
        module, leaf = name.rsplit("/", 1)
        key = (PREFIX + module, leaf) if flat else tuple(name.split("/"))
        leaves[key] = orbax_tree.Leaf(
            tensor.shape, dtypes[name], lambda tensor=tensor: assembled(tensor, weights)
        )
    tree = folder / "tree"  # Orbax wants to make the folder
    orbax_tree.write_tree(tree, leaves)
    for entry in tree.iterdir():
        entry.rename(folder / entry.name)
    tree.rmdir()
    (folder / CONFIG).write_text(config)


def table_name(stored: str) -> str:
    """The table's name for a stored one: without the prefix, and a dense MLP's without "/w"."""
    return DENSE.sub(r"\1", stored.removeprefix(PREFIX))
