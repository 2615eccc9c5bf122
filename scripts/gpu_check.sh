#!/usr/bin/env bash
# Runs every check and measurement that needs a GPU. Each stage has a limit: 1 to 7 minutes.
#
#   bash scripts/gpu_check.sh OUT [--wheels=DIR] [stage ...]
#
# The log and all figures go to the folder OUT. The stages are:
#
#   kernels           the kernels' results against plain float32
#   bf16, int8, int4  the 26B's denoising step at a context of 4,096 tokens
#   lora              a fine-tuning step of the 26B with LoRA factors of rank 8
#   parts             the parts of a bfloat16 step; only if named, because compiling takes minutes
#
# It needs a Python 3.12 with jax 0.11.2 for CUDA, flax, optax, orbax, absl-py, numpy and
# matplotlib. PYTHON names that Python. --wheels names a folder with wheels of packages that it
# lacks; they are installed into a temporary folder. Weights are random and are made on the GPU.
# The exit status is the highest one of all stages.
set -uo pipefail

[[ $# -ge 1 && $1 != -* ]] || { echo "error: usage: bash scripts/gpu_check.sh OUT [--wheels=DIR] [stage ...]" >&2; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheels= stages=()
for arg in "$@"; do
  case "$arg" in
    --wheels=*) wheels=${arg#--wheels=} ;;
    kernels | bf16 | int8 | int4 | lora | parts) stages+=("$arg") ;;
    *) echo "error: no stage '$arg': use kernels, bf16, int8, int4, lora, parts" >&2; exit 2 ;;
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
# By default JAX takes three quarters of the memory, which the 26B's 50.5 GB of weights exceed.
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
      kernels) run kernels 240 scripts.check_kernels ;;
      bf16) run bf16 120 "${step[@]}" --context=4096 --noparts --out="$out/bf16" ;;
      int8 | int4) run "$stage" 110 "${step[@]}" --context=4096 --noparts --quantize="$stage" --out="$out/$stage" ;;
      lora) run lora 80 "${step[@]}" --context=256 --batch=2 --noparts --lora=8 --steps=1 --out="$out/lora" ;;
      parts) run parts 420 "${step[@]}" --context=4096 --out="$out/parts" ;;
    esac
  done
} > >(tee "$out/gpu_check.log")
wait
exit "$status"
