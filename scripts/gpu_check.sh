#!/usr/bin/env bash
# All that needs a GPU, in one go of under 9 minutes on an H100; the log and every figure go to OUT.
#
#   bash scripts/gpu_check.sh OUT [--wheels=DIR] [stage ...]
#
# Stages, all by default: kernels (their results), bf16, int8, int4 (the 26B's step at 4K context),
# lora (an SFT step of rank 8), parts (where the time of a bf16 step goes; not by default, for it
# takes minutes to compile). Needs a Python 3.12 with jax 0.11.2 for CUDA, flax, optax, orbax,
# absl-py, numpy and matplotlib; wheels of what it lacks go into a folder of their own. The weights
# are random and made on the GPU. The status is that of the worst stage.
set -uo pipefail

[[ $# -ge 1 && $1 != -* ]] || { echo "error: bash scripts/gpu_check.sh OUT [--wheels=DIR] [stage ...]" >&2; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheels= stages=()
for arg in "$@"; do
  case "$arg" in
    --wheels=*) wheels=${arg#--wheels=} ;;
    kernels | bf16 | int8 | int4 | lora | parts) stages+=("$arg") ;;
    *) echo "error: no stage '$arg': kernels, bf16, int8, int4, lora, parts" >&2; exit 2 ;;
  esac
done
(( ${#stages[@]} )) || stages=(kernels bf16 int8 int4 lora)

python=${PYTHON:-python3}
if [[ -n $wheels ]]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl || exit 2
  export PYTHONPATH=$site
fi
export PYTHONUNBUFFERED=1
# 50.5 GB of weights do not fit into the three quarters that JAX takes otherwise.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.95

status=0
run() {
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  echo "== $name: $*"
  timeout -k 5 "$limit" "$python" -m "$@" 2>&1
  local code=$?
  echo "== $name: status $code after $(( SECONDS - started )) of $limit s"
  (( code > status )) && status=$code
}
step=(scripts.benchmark --preset=26b_a4b --dtype=bfloat16 --repeats=5)
{
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  for stage in "${stages[@]}"; do
    case $stage in
      kernels) run kernels 110 scripts.check_kernels ;;
      bf16) run bf16 120 "${step[@]}" --context=4096 --noparts --out="$out/bf16" ;;
      int8 | int4) run "$stage" 110 "${step[@]}" --context=4096 --noparts --quantize="$stage" --out="$out/$stage" ;;
      lora) run lora 80 "${step[@]}" --context=256 --batch=2 --noparts --lora=8 --steps=1 --out="$out/lora" ;;
      parts) run parts 420 "${step[@]}" --context=4096 --out="$out/parts" ;;
    esac
  done
} > >(tee "$out/gpu_check.log")
wait
exit "$status"
