#!/usr/bin/env bash
# Checks the style and runs the tests.
#
#   bash scripts/test.sh [pytest arguments]            everything, as CI runs it; about 10 minutes
#   bash scripts/test.sh --quick [pytest arguments]    under a minute and a half on two cores
#
# The tests of pages need a browser: Debian's package chromium. In CI (if the variable CI is set) it
# is installed if it is missing, and the run fails if that is not possible. Elsewhere these tests are
# left out without it, and a line says so. --quick does not run them.
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
install_browser() {
  local as_root=()
  if (( EUID != 0 )); then as_root=(sudo -n); fi
  "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -qy --no-install-recommends chromium
}

selected=()
if [[ ${1:-} == --quick ]]; then
  selected=("${quick[@]}")
  shift
elif ! command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; then
  if [[ -z ${CI:-} ]]; then
    echo "note: the tests of pages in a browser are left out: they need chromium" \
      "(on Debian, as root: apt-get install chromium)" >&2
    selected=(-m "not browser")
  elif ! install_browser; then
    echo "error: the tests of pages need chromium, and it cannot be installed here" \
      "(on Debian, as root: apt-get install chromium)" >&2
    exit 1
  fi
fi
source "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
python -m pytest "${selected[@]}" "$@"
