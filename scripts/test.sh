#!/usr/bin/env bash
# Style check and the whole test suite, as CI runs it: bash scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "$0")/setup.sh"

ruff check .
ruff format --check .
python -m pytest "$@"
