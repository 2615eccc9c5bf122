"""What a conversion copies without a look at it: tensors as bytes, and fields of config.json.

The vision tower of a released checkpoint is such a passenger. Only the "hf" format holds any.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple


class RawTensor(NamedTuple):
    """A tensor on its way into a safetensors file.

    Attributes:
      dtype: safetensors' name of the dtype.
      shape: the tensor's shape.
      nbytes: the tensor's size in bytes.
      write: writes the tensor's bytes to a file, a part at a time.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    write: Callable[[BinaryIO], None]


@dataclasses.dataclass(frozen=True)
class Untouched:
    """What a checkpoint holds beside the text model.

    Attributes:
      config: the content of its config.json.
      tensors: name -> tensor, for the tensors of the vision tower.
    """

    config: dict[str, Any]
    tensors: Mapping[str, RawTensor]
