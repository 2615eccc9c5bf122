"""config.json and other JSON files: faults are named with the file."""

import json

from tests.diffusiongemma.formats.folders import refusal


def test_config_faults_are_reported_with_the_file(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"novelty": 1}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder) == f"{folder / 'config.json'}: text_config.novelty: unknown field"
