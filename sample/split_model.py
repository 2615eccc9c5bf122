"""A model split into its structure and its arrays, once for many calls of compiled functions."""

from typing import Any

import jax
from flax import nnx

from diffusiongemma.config import ModelConfig


class Structure:
    """What a model is apart from its arrays: a static argument of compiled functions.

    The hash is computed once, because hashing the 26B's graph takes 3 ms.

    Attributes:
      graphdef: the graph of modules, as nnx.split gives it.
      config: the model's config.
    """

    def __init__(self, graphdef: nnx.GraphDef, config: ModelConfig):
        self.graphdef, self.config = graphdef, config
        self._hash = hash(graphdef)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        return isinstance(other, Structure) and self.graphdef == other.graphdef

    def merge(self, state: nnx.State) -> nnx.Module:
        """The module of this structure with these arrays."""
        return nnx.merge(self.graphdef, state)


@jax.tree_util.register_pytree_node_class
class SplitModel:
    """A model as it is now. What is assigned to the module later does not change it.

    Splitting the 26B takes 28 ms, as long as two denoising steps on an H100, so a caller of many
    generations splits once and gives the SplitModel to each. It is a pytree whose leaves are the
    model's arrays, so compiled functions take it as one argument and call `merge`.

    Attributes:
      structure: the static part.
      state: the arrays, as nnx.split gives them.
    """

    def __init__(self, model: nnx.Module):
        graphdef, state = nnx.split(model)
        self.structure = Structure(graphdef, model.config)
        self.state = jax.tree.map(lambda x: x, state)  # variables of its own, the same arrays

    @classmethod
    def join(cls, structure: Structure, state: nnx.State) -> "SplitModel":
        """The structure with other arrays, or with their shapes alone."""
        split_model = object.__new__(cls)
        split_model.structure, split_model.state = structure, state
        return split_model

    @property
    def config(self) -> ModelConfig:
        return self.structure.config

    def merge(self) -> nnx.Module:
        """The model as a module again."""
        return self.structure.merge(self.state)

    def tree_flatten(self) -> tuple[tuple[nnx.State], Structure]:
        return (self.state,), self.structure

    @classmethod
    def tree_unflatten(cls, structure: Structure, children: tuple[nnx.State]) -> "SplitModel":
        return cls.join(structure, *children)


def split(model: nnx.Module | SplitModel) -> SplitModel:
    """The model split, if it is not split already."""
    return model if isinstance(model, SplitModel) else SplitModel(model)
