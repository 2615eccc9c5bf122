"""One row of a format's table of tensors (tensor_tables.py)."""

from typing import NamedTuple

from diffusiongemma.config import LayerType


class TableRow(NamedTuple):
    """One tensor of a format, or one tensor in each layer.

    Attributes:
      name: the tensor's name in the format.
      axes: the tensor's axes in the format. A leading "N" axis stacks the layers of the vision
        tower. A "part" axis, which leads or follows "N", stacks the parameters of the row in their
        order.
      params: paths of our parameters in the tensor. Several parameters without a "part" axis are
        copies of the tensor: they must be equal to be saved.
      only: the type of the layers that have the tensor. None: all layers have it.
    """

    name: str
    axes: str
    params: tuple[str, ...]
    only: LayerType | None = None
