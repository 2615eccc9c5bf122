"""Devices to compile for: CPUs, or GPUs that this machine need not have.

XLA compiles for a GPU from a text that describes it. It needs JAX's CUDA plugin, which is the
compiler, and CUDA's assembler. It needs neither a GPU nor a driver.
"""

import os
from typing import Literal

import jax
from jax.experimental import topologies

CompileTarget = Literal["cpu", "h100"]

# NVIDIA's H100 SXM in the fields of XLA's GpuTargetConfigProto.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 patch: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  clock_rate_ghz: 1.98
  fpus_per_core: 128
  device_memory_size: 84978434048
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_core_limit: 2048
  threads_per_block_limit: 1024
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
"""


def devices(target: CompileTarget, num: int) -> list[jax.Device]:
    """Devices to compile for. A program that is compiled for "h100" cannot run on this machine.

    Args:
      target: the kind of device.
      num: the number of devices.

    Raises:
      ValueError: there is no compiler for the target. The message names the packages to install.
    """
    if target == "cpu":
        return jax.devices("cpu")[:num]
    # JAX's plugin would refuse to start without CUDA's other libraries, which only a GPU needs.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", topology=f"1x1x{num}", target_config=H100
        )
    except NotImplementedError:  # JAX raises this where the plugin is missing
        raise ValueError(
            f"there is no compiler for {target} here; install it with: pip install "
            f"jax-cuda12-plugin=={jax.__version__} jax-cuda12-pjrt=={jax.__version__} "
            "nvidia-cuda-nvcc-cu12"
        ) from None
    return topology.devices
