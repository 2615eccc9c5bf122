"""config.json and other JSON files: faults are named with the file."""

import json

from diffusiongemma.formats.config_file import read_content
from tests.diffusiongemma.formats.folders import refusal


def test_config_faults_are_reported_with_the_file(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"novelty": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder) == (
        f"{folder / 'config.json'}: text_config.novelty: unknown field "
        "(delete an unknown field if the network is the same without it)"
    )


def test_another_models_folder_is_named(folder):
    file = folder / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "hidden_size": 3}))
    said = "model_type: 'llama' is another model, and only 'diffusion_gemma' is read"
    assert refusal(folder) == f"{file}: {said}"
    file.write_text("{}")
    said = "text_config: missing, so this is no config.json of 'diffusion_gemma'"
    assert refusal(folder) == f"{file}: {said}"


def test_a_failed_download_is_named(folder):
    file = folder / "config.json"
    file.write_text("<!DOCTYPE html><html>Log in</html>")
    assert refusal(folder).startswith(f"{file}: a web page and not the file: download")
    file.write_text("\n")
    assert refusal(folder) == f"{file}: is empty: download it again"


def test_a_byte_order_mark_is_read_past(folder):
    file = folder / "config.json"
    text = file.read_bytes()
    file.write_bytes(b"\xef\xbb\xbf" + text)
    assert read_content(file) == json.loads(text)
