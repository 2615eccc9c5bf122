#!/usr/bin/env bash
# Checks the style and runs the tests.
#
#   bash scripts/test.sh [pytest arguments]            everything, as CI runs it; about 9 minutes
#   bash scripts/test.sh --quick [pytest arguments]    under a minute and a half on two cores
#
# Pages are tested in a browser: Debian's package chromium. In CI it is installed if it is missing.
# Elsewhere these tests are left out without it, and a line says so.
#
# With --many, tests of kept tokens and constraints try 1,000 random cases and more. Without it they
# try a part of them.
#
# --quick runs the tests in the folders and files of the list below: data, checkpoint formats, the
# small operations, the house (imports, prose), and one denoising step with its stop rule, against a
# plain Python loop too. It leaves out kernels, gradients, training and commands, most of which
# compile for long. To choose others, measure them: `python -m pytest --durations=0 PATH`.
set -euo pipefail

quick=(
  tests/data
  tests/diffusiongemma/formats
  tests/diffusiongemma/ops
  tests/diffusiongemma/test_diffusion.py
  tests/diffusiongemma/test_layers.py
  tests/sample/test_reference.py
  tests/sample/test_statistics.py
  tests/sample/test_step.py
  tests/sample/test_stopping.py
  tests/sample/command/test_grid_view.py
  tests/test_house.py
)
selected=()
if [[ ${1:-} == --quick ]]; then
  selected=("${quick[@]}")
  shift
fi
source "$(dirname "$0")/setup.sh"

if ! command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then
  if [[ ${CI:-} == true ]]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium
  else
    echo "note: no Chromium, so no page is tested in a browser: apt-get install chromium" >&2
  fi
fi
ruff check .
ruff format --check .
python -m pytest "${selected[@]}" "$@"
