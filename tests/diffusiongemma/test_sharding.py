"""Where parameters go on a mesh. What meshes compute is in tests/train/test_mesh.py."""

from jax.sharding import PartitionSpec as P

from diffusiongemma.sharding import MeshConfig, param_sharding


def test_where_values_and_scales_go():
    where = param_sharding(MeshConfig(fsdp=4, expert=2).make())

    def spec(path: str, *shape: int) -> P:
        return where(path, shape).spec

    assert spec("embedder.embedding.values", 64, 32) == P("fsdp", None)
    assert spec("embedder.embedding.scales", 64, 1) == P("fsdp", None)
    assert spec("layers.0.attention.q.kernel.values", 32, 32) == P("fsdp", None)
    assert spec("layers.0.attention.q.kernel.scales", 1, 32) == P(None, None)
    assert spec("layers.0.attention.o.kernel.scales", 1, 32) == P(None, "fsdp")
    assert spec("layers.3.moe.gate_up.kernel.values", 8, 16, 32) == P("expert", "fsdp", None)
    assert spec("layers.3.moe.gate_up.kernel.scales", 8, 1, 32) == P("expert", None, None)
    assert spec("vision.layers.1.attention.q.kernel", 8, 12) == P("fsdp", None)
    assert spec("vision.position_table", 2, 9, 8) == P(None, None, "fsdp")
    assert spec("vision.projection.kernel", 8, 32) == P("fsdp", None)
    assert spec("vision.layers.1.attention.q.input_min") == P()
    for mode in ("", "encode_", "denoise_"):
        assert spec(f"layers.3.moe.gate_up.{mode}lora_b", 8, 2, 32) == P("expert")
