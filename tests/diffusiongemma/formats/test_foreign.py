"""Folders of other tools, each refused in one line that names the format and what to load."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from diffusiongemma.formats.detect import open_checkpoint
from tests.diffusiongemma.formats.folders import read_all, refusal, write_tensors

INSTEAD = (
    "load the unquantized release; scripts.convert --format=orbax --quantize=int4 makes it small"
)


def edit(folder, **fields) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}, "fp8"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "nvfp4-pack-quantized",
                }
            },
            "compressed-tensors (nvfp4-pack-quantized)",
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "bitsandbytes (4 bits)",
        ),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq (4 bits)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq (4 bits)"),
        (
            {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
            "modelopt (NVFP4)",
        ),
        ({"quantization_config": {"config_groups": {}}}, "an unknown method"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
    ],
)
def test_a_quantized_folder_is_named_by_its_config(folder, field, named):
    edit(folder, **field)
    assert refusal(folder) == (
        f"{folder}: its weights are quantized ({named}), and this format is not read: {INSTEAD}"
    )


def test_a_config_may_say_so_in_its_text_part_or_say_that_nothing_is_quantized(folder):
    edit(folder, quantization_config=None)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit(folder, text_config=text | {"quantization_config": {"quant_method": "fp8"}})
    assert "its weights are quantized (fp8)" in refusal(folder)


def with_dtype(file, name: str, dtype: str) -> None:
    """Writes a file of one byte for each element under a dtype that NumPy lacks."""
    header = {name: {"dtype": dtype, "shape": [32], "data_offsets": [0, 32]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(32))


def test_float8_tensors_are_named(folder):
    tensors = read_all(folder)
    del tensors["model.decoder.norm.weight"]
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "a.safetensors")
    with_dtype(folder / "b.safetensors", "model.decoder.norm.weight", "F8_E4M3")
    said = refusal(folder)
    assert said.startswith(f"{folder}: its weights are quantized (tensors in F8_E4M3), and")
    assert said.endswith(INSTEAD)


@pytest.mark.parametrize(
    ("ending", "named"),
    [
        ("q_proj.qweight", "GPTQ or AWQ"),
        ("q_proj.weight.absmax", "bitsandbytes"),
        ("q_proj.weight_packed", "compressed-tensors"),
        ("q_proj.weight_scale_2", "NVFP4 of ModelOpt"),
        ("q_proj._weight_qdata", "torchao"),
        ("q_proj.W_q", "HQQ"),
        ("q_proj.weight._data", "quanto"),
        ("q_proj.weight_scale", "a scale beside each weight"),
        ("q_proj.scales", "MLX"),
        ("experts.gate_up_proj_blocks", "MXFP4"),
    ],
)
def test_tensors_of_other_tools_are_recognised_by_their_names(folder, ending, named):
    name = f"model.decoder.layers.0.self_attn.{ending}"
    write_tensors(folder, read_all(folder) | {name: np.ones(2, np.float32)})
    assert f"its weights are quantized ({named}: it has {name}), and" in refusal(folder)


def test_names_say_more_than_dtypes_and_dtypes_more_than_a_scale(folder):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    with_dtype(folder / "b.safetensors", "model.decoder.q_proj.weight_scale", "F8_E4M3")
    assert "its weights are quantized (tensors in F8_E4M3), and" in refusal(folder)
    with_dtype(folder / "c.safetensors", "model.decoder.q_proj.weight_scale_2", "F8_E4M3")
    assert "its weights are quantized (NVFP4 of ModelOpt: it has" in refusal(folder)
    for name in "bc":
        (folder / f"{name}.safetensors").unlink()
    with_dtype(folder / "b.safetensors", "model.decoder.norm.packed", "U8")
    assert "its weights are quantized (tensors in U8), and" in refusal(folder)


def test_modelopts_own_config_names_the_method(folder):
    file = folder / "hf_quant_config.json"
    file.write_text('{"quantization": {"quant_algo": null}}')
    assert open_checkpoint(folder)
    file.write_text('{"producer": {}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}')
    assert "its weights are quantized (modelopt (NVFP4)), and" in refusal(folder)


def test_experts_one_by_one_are_refused(folder):
    tensors = read_all(folder)
    name = "model.decoder.layers.0.experts.3.gate_proj.weight"
    del tensors["model.decoder.layers.0.experts.gate_up_proj"]
    write_tensors(folder, tensors | {name: np.ones((8, 32), np.float32)})
    assert refusal(folder) == (
        f"{folder}: its experts are stored one by one ({name}), and this layout is not read: load "
        "the release, or a folder that transformers saved, which stack them"
    )


def test_mlx_without_quantization_is_refused(folder):
    tensors = {k.removeprefix("model."): v for k, v in read_all(folder).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "mlx"})
    assert refusal(folder).startswith(f"{folder}: its weights are in MLX's layout, which is not")


@pytest.mark.parametrize("name", ["model-Q4_K_M.gguf", "M.GGUF", "sha256-0a1b", "Q4/M.gguf"])
def test_gguf_is_refused_as_a_file_and_in_a_folder(tmp_path, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"GGUF\3\0" if "sha256" in name else b"")  # by its name or by how it begins
    (tmp_path / "config.json").write_text("{}")
    for path in (file, tmp_path):
        assert refusal(path) == (
            f"{path}: GGUF, the format of llama.cpp ({file.name}), is not read: {INSTEAD}"
        )
    said = f"{tmp_path / 'config.json'}: is a file: name the folder of the checkpoint"
    assert refusal(tmp_path / "config.json") == said
