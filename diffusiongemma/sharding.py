"""Many devices: the mesh, one table that says where parameters go, and batches.

The mesh has three axes. "data" and "fsdp" both split the batch. "fsdp" also splits every matrix
along the residual width, D or W, and the embedding along V: a device keeps its part, and gathers
the rest of a layer while it computes that layer. "expert" splits the stacks of experts: its devices
see the same tokens, compute the experts that they hold, and sum the results.

Arrays are placed by NamedSharding, and computations follow them (jax.jit's automatic partitioning).
Only the mixture of experts has explicit collectives. The code finds the mesh in JAX's context, so
a caller with a mesh runs it under `jax.set_mesh(mesh)`:

    mesh = MeshConfig(fsdp=4, expert=2).make()
    with jax.set_mesh(mesh):
        model = load_checkpoint(path, dtype=jnp.bfloat16, sharding=param_sharding(mesh))
        out = generate(model, tokens, mask, key)
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from diffusiongemma.config import ModelConfig
from diffusiongemma.ops.expert_loop import Experts
from diffusiongemma.parameters import OURS, axis_groups

T = TypeVar("T")

BATCH = ("data", "fsdp")
EXPERT = "expert"
# The mesh axis that splits an axis of a parameter, by the axis names of parameters.OURS. Where two
# axes of a parameter would have the same mesh axis, the first one gets it. Parameters with one axis
# are small, and whole on every device.
AXES = {"V": "fsdp", "D": "fsdp", "E": EXPERT, "W": "fsdp"}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Number of devices along each axis of the mesh; 1 x 1 x 1 is one device.

    Attributes:
      data: devices along "data", which splits the batch.
      fsdp: devices along "fsdp", which splits the batch and the matrices.
      expert: devices along "expert", which splits the stacks of experts.

    Raises:
      ValueError: a number below 1.
    """

    data: int = 1
    fsdp: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for name, size in dataclasses.asdict(self).items():
            if size < 1:
                raise ValueError(f"mesh.{name} must be at least 1, not {size}")

    @property
    def size(self) -> int:
        return self.data * self.fsdp * self.expert

    def __str__(self) -> str:
        return f"data {self.data} x fsdp {self.fsdp} x expert {self.expert}"

    def check(self, model: ModelConfig, batch_size: int | None = None) -> None:
        """Checks that the mesh divides the model and the batch.

        Args:
          model: the shape of the network.
          batch_size: rows of a batch; None if there is no batch to check.

        Raises:
          ValueError: the message names everything that the mesh does not divide.
        """
        faults = []
        if model.width % self.fsdp:
            faults.append(f"mesh.fsdp {self.fsdp} does not divide the width {model.width}")
        if model.vocab_size % self.fsdp:
            faults.append(f"mesh.fsdp {self.fsdp} does not divide the {model.vocab_size} tokens")
        if model.vision is not None and model.vision.width % self.fsdp:
            faults.append(
                f"mesh.fsdp {self.fsdp} does not divide the vision tower's width "
                f"{model.vision.width}"
            )
        if model.num_experts % self.expert:
            faults.append(f"mesh.expert {self.expert} does not divide {model.num_experts} experts")
        if batch_size is not None and batch_size % (self.data * self.fsdp):
            faults.append(
                f"mesh.data x mesh.fsdp = {self.data * self.fsdp} does not divide the batch of "
                f"{batch_size}"
            )
        if faults:
            raise ValueError("; ".join(faults))

    def make(self, devices: list[jax.Device] | None = None) -> Mesh:
        """The mesh.

        Args:
          devices: the devices to take the first ones of; None for all of JAX's devices.

        Raises:
          ValueError: there are too few devices, or the processes do not divide the mesh.
        """
        devices = jax.devices() if devices is None else devices
        if len(devices) < self.size:
            raise ValueError(
                f"a mesh of {self} takes {self.size} devices, and there are {len(devices)}"
            )
        if self.size % jax.process_count():
            raise ValueError(
                f"a mesh of {self} takes {self.size} devices, no multiple of "
                f"{jax.process_count()} processes"
            )
        shape = (self.data, self.fsdp, self.expert)
        return jax.make_mesh(
            shape, (*BATCH, EXPERT), (AxisType.Auto,) * 3, devices=devices[: self.size]
        )


def param_spec(path: str, ndim: int) -> PartitionSpec:
    """How a parameter is split: by AXES, or in the case of LoRA factors along the experts only.

    Args:
      path: its path in the model, such as "layers.3.attention.q.kernel".
      ndim: its number of axes.
    """
    path = ".".join("N" if part.isdigit() else part for part in path.split("."))
    if path.endswith(("lora_a", "lora_b")):
        return PartitionSpec(EXPERT) if ndim == 3 else PartitionSpec()
    if ndim < 2:
        return PartitionSpec()
    axes = [AXES.get(group[0]) for group in axis_groups(OURS[path])]
    return PartitionSpec(*(a if a not in axes[:i] else None for i, a in enumerate(axes)))


def param_sharding(mesh: Mesh) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """Where load_checkpoint puts a parameter, as a function of its path and shape.

    The values and scales of a quantized matrix are split as the matrix would be, but only along
    the axes that the mesh divides: they have fewer rows, which stand for pairs or groups of rows.
    """

    return lambda path, shape: NamedSharding(mesh, _array_spec(path, shape, mesh))


def _array_spec(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    stem, _, part = path.rpartition(".")
    if part not in ("values", "scales"):
        return param_spec(path, len(shape))
    spec = param_spec(stem, len(shape))
    divides = (
        axis if size % mesh.shape.get(axis, 1) == 0 else None
        for axis, size in zip(spec, shape, strict=True)
    )
    return PartitionSpec(*divides)


def state_sharding(state: nnx.State, mesh: Mesh) -> nnx.State:
    """The sharding of every leaf of a model's state; the leaves are arrays or shapes."""
    where = param_sharding(mesh)

    def sharding(path: tuple, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return where(name.removesuffix(".value"), leaf.shape)

    return jax.tree_util.tree_map_with_path(sharding, state)


def place_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch on the mesh, split by rows. Every process passes its own part of the rows."""
    where = NamedSharding(mesh, PartitionSpec(BATCH))
    return {k: jax.make_array_from_process_local_data(where, v) for k, v in batch.items()}


def split_rows(x: jax.Array) -> jax.Array:
    """x, split by its first axis over the mesh in context, if there is one that divides it."""
    spec = _row_spec(x.shape[0])
    return x if spec is None else jax.lax.with_sharding_constraint(x, spec)


def gather(tree: T) -> T:
    """The arrays of a tree, whole on every device of the mesh in context, if there is one."""
    if _mesh() is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, jax.tree.map(lambda _: PartitionSpec(), tree))


def over_experts(
    apply: Callable[[jax.Array, jax.Array, jax.Array, Experts], jax.Array],
    rows: jax.Array,
    weights: jax.Array,
    experts: jax.Array,
    params: Experts,
) -> jax.Array:
    """apply(rows, weights, experts, params), where each device has some experts and some rows.

    Every device computes all choices of its rows. A choice whose expert it does not hold is
    computed with one of its own experts and weight 0: no smaller static shape holds every token in
    every case. A device gathers its experts along "fsdp" first. The transpose of that gather sums
    gradients such that each device has the sum of the part that it keeps.

    Args:
      apply: returns [N, D], a sum over the choices weighted by `weights`.
      rows: [N, D].
      weights: [N, top_k] float32.
      experts: [N, top_k] int32.
      params: the maps of all E experts.

    Returns:
      [N, D], what apply returns for all rows and experts.
    """
    mesh = _mesh()
    if mesh is None:
        return apply(rows, weights, experts, params)
    spec = _row_spec(rows.shape[0]) or PartitionSpec()

    def param(path: tuple, array: jax.Array) -> PartitionSpec:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return _array_spec(f"layers.0.moe.{name}", array.shape, mesh)

    specs = jax.tree_util.tree_map_with_path(param, params)

    def local(
        rows: jax.Array, weights: jax.Array, experts: jax.Array, params: Experts
    ) -> jax.Array:
        def whole(array: jax.Array, spec: PartitionSpec) -> jax.Array:
            if "fsdp" not in spec or mesh.shape["fsdp"] == 1:
                return array
            # The barrier delays the gather until the rows are there. Without it XLA gathers once
            # for all passes, and keeps the experts of all layers in memory.
            array, _ = jax.lax.optimization_barrier((array, jax.lax.stop_gradient(rows)))
            return jax.lax.all_gather(array, "fsdp", axis=spec.index("fsdp"), tiled=True)

        params = jax.tree.map(whole, params, specs)
        held = jax.tree.leaves(params)[0].shape[0]
        experts = experts - jax.lax.axis_index(EXPERT) * held
        own = (experts >= 0) & (experts < held)
        out = apply(rows, weights * own, experts % held, params)
        return jax.lax.psum(out, EXPERT)

    # With check_vma, the loop over blocks would have to say along which axes its sums vary.
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(spec, spec, spec, specs),
        out_specs=spec,
        check_vma=False,
    )(rows, weights, experts, params)


def platform() -> str:
    """The platform of the mesh in context, or else JAX's default: "cpu" or "gpu"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def on_one_gpu() -> bool:
    """Whether a Pallas kernel may be used outside of shard_map.

    XLA does not split a kernel over several devices.
    """
    return platform() == "gpu" and _mesh() is None


def _mesh() -> AbstractMesh | None:
    """The mesh in context; None if there is none, or only one device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def _row_spec(rows: int) -> PartitionSpec | None:
    """How rows are split over the mesh in context; None if they are not split."""
    mesh = _mesh()
    if mesh is None or rows % math.prod(mesh.shape[axis] for axis in BATCH):
        return None
    return PartitionSpec(BATCH)
