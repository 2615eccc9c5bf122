#!/usr/bin/env bash
# Sets up, then a shipped model works on a new 9x9 Sudoku before your eyes.
#
#   bash scripts/demo.sh [--seed=N]
#
# Each run makes another puzzle; --seed=N makes the puzzle of that seed. After set-up it takes less
# than half a minute, most of it for compilation.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

exec python -m scripts.demo "$@"
