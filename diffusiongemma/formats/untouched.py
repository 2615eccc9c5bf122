"""What a conversion copies without a look at it: fields of config.json."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Untouched:
    """What a checkpoint of the "hf" format holds beside the model.

    Attributes:
      config: the content of its config.json. Some of its fields say nothing about the network.
    """

    config: dict[str, Any]
