"""The "google" format: an Orbax checkpoint of Google's Linen tree, in either of its two forms.

The tree is nested, {"layer_0": {"attn": {"q_einsum": {"w": ...}}}}, or flat. In the flat form the
path of a module is one key with a prefix, {"transformer/layer_0/attn/q_einsum": {"w": ...}}. Names
of dense MLPs may end in "/w" or not. The tree may have no vision tower: then it is a model without
one, whatever its config says of a tower. The tree does not say what the constants of the model are:
a config.json in the folder does, or the caller names a config.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np

from diffusiongemma.config import ModelConfig
from diffusiongemma.formats.checks import CheckpointError, raise_faults, tensor_faults
from diffusiongemma.formats.config_file import CONFIG, config_text, read_config
from diffusiongemma.formats.format import Format, WriteOptions
from diffusiongemma.formats.orbax_tree import header, is_tree, open_tree, read_leaf
from diffusiongemma.formats.tensor_tables import GOOGLE, file_tensors
from diffusiongemma.formats.vision_tables import GOOGLE_PREFIXES
from diffusiongemma.formats.weights import Part, Stored, Weights, assembled, layout

PREFIX = "transformer/"
DENSE = re.compile(r"((?:mlp2|self_conditioner/ffw)/(?:gating_einsum|linear))/w$")


def open_google(folder: Path, config: ModelConfig | None = None) -> Stored:
    """Opens the checkpoint in a folder: reads and checks its headers.

    Args:
      folder: the Orbax checkpoint, with or without a config.json in it.
      config: the shape of the model; None: that of the config.json.

    Raises:
      CheckpointError: there is no config; or everything that is missing, superfluous, misshapen or
        of an unknown dtype, together.
    """
    leaves = [(table_name("/".join(key)), leaf) for key, leaf in open_tree(folder).items()]
    tower = any(name.startswith(GOOGLE_PREFIXES) for name, _ in leaves)
    if config is None:
        if not (folder / CONFIG).exists():
            raise CheckpointError(
                f"{folder}: a checkpoint in Google's layout without a {CONFIG}: "
                "name a preset or the model's config.json (--config)"
            )
        config = read_config(folder / CONFIG, tower)
    if not tower:
        config = dataclasses.replace(config, vision=None)
    found = [(name, *header(leaf)) for name, leaf in leaves]
    expected = file_tensors(config, GOOGLE)
    raise_faults(folder, tensor_faults(expected, found))
    opened = dict(leaves)
    dtypes = {name: dtype for name, _, dtype in found}

    def read(name: str, part: Part = ...) -> np.ndarray:
        return read_leaf(folder, opened[name][part])

    return Stored(folder, config, {name: expected[name] for name in opened}, dtypes, read)


def write_google(folder: Path, weights: Weights, options: WriteOptions) -> None:
    """Writes the tree and a config.json into an empty folder.

    Args:
      folder: the folder.
      weights: the weights.
      options: `flat` gives the form with the prefix, as Google publishes it.

    Raises:
      CheckpointError: the format has no place for some weights, or cannot describe the model. It
        has one tensor for the layer scalars of encode and denoise, so they must be equal.
    """
    from diffusiongemma.formats.orbax_writer import NewLeaf, write_tree  # loads Orbax

    tensors = file_tensors(weights.config, GOOGLE)
    dtypes = layout(weights, tensors)
    config = config_text(weights, dtypes)
    leaves = {}
    for name, tensor in tensors.items():
        module, leaf = name.rsplit("/", 1)
        key = (PREFIX + module, leaf) if options.flat else tuple(name.split("/"))
        leaves[key] = NewLeaf(
            tensor.shape, dtypes[name], lambda tensor=tensor: assembled(tensor, weights)
        )
    tree = folder / "tree"  # Orbax makes the folder that it writes to
    write_tree(tree, leaves)
    for entry in tree.iterdir():
        entry.rename(folder / entry.name)
    tree.rmdir()
    (folder / CONFIG).write_text(config)


def table_name(stored: str) -> str:
    """The table's name for a stored tensor: without the prefix, and without a dense MLP's "/w"."""
    return DENSE.sub(r"\1", stored.removeprefix(PREFIX))


FORMAT = Format(
    name="google",
    description="_METADATA: an Orbax checkpoint of Google's Linen tree, nested or flat",
    recognises=is_tree,
    open=open_google,
    write=write_google,
    takes_config=True,
)
