#!/usr/bin/env bash
# Trains a small model from start to end on one GPU, in at most 8 minutes on an H100.
#
#   bash scripts/gpu_train.sh OUT base|sudoku [--minutes=8] [--from=FILE.tar] [--cache=FILE.tar]
#                             [--wheels=DIR] [train.main arguments, such as --config.seed=1]
#
# base trains configs/base_gpu.py, sudoku trains configs/sudoku_gpu.py. First, a short run measures
# the time of a step. The training then has as many steps as fit into the minutes. Every minute, the
# newest checkpoint goes to OUT/run.tar, so that a training that is cut off can go on elsewhere:
#
#   tar -xf OUT/run.tar      # makes a workdir; then start train.main with the command in OUT/command
#
# At the end OUT has the trained model in model.tar, and train.log, metrics.jsonl and compiled.tar,
# the compiled programs. --cache=compiled.tar saves their compilation the next time, on the same
# kind of GPU. --from=run.tar goes on with a training that was cut off, to its end.
# PYTHON names the Python, and --wheels a folder with wheels of packages that it lacks. They are
# installed into a temporary folder.
set -uo pipefail

fail() { echo "error: $*" >&2; exit 2; }
usage='usage: bash scripts/gpu_train.sh OUT base|sudoku [--minutes=N] [--wheels=DIR] [...]'
[[ $# -ge 2 && $1 != -* ]] || fail "$usage"
[[ $2 == base || $2 == sudoku ]] || fail "no training '$2': use base or sudoku"
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
name=$2
shift 2

minutes=8 from= cache= wheels= arguments=()
for arg in "$@"; do
  case "$arg" in
    --minutes=*) minutes=${arg#--minutes=} ;;
    --from=*) from=$(realpath "${arg#--from=}") ;;
    --cache=*) cache=$(realpath "${arg#--cache=}") ;;
    --wheels=*) wheels=$(realpath "${arg#--wheels=}") ;;
    --config.*) arguments+=("$arg") ;;
    *) fail "unknown argument '$arg'; $usage" ;;
  esac
done
[[ $minutes =~ ^0*([1-9][0-9]{0,5})$ ]] ||
  fail "--minutes takes a whole number above 0, of at most 6 digits, not '$minutes'"
minutes=${BASH_REMATCH[1]}
for file in $from $cache; do [[ -f $file ]] || fail "$file is not there"; done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
copier=
trap '[[ -z $copier ]] || kill "$copier" 2>/dev/null; rm -rf "$work"' EXIT
if [[ -n $wheels ]]; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$wheels"/*.whl || exit 2
  export PYTHONPATH=$work/site
fi
export PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 JAX_COMPILATION_CACHE_DIR=$work/compiled
mkdir -p "$JAX_COMPILATION_CACHE_DIR"
[[ -z $cache ]] || tar -xf "$cache" -C "$JAX_COMPILATION_CACHE_DIR" || fail "$cache cannot be unpacked"

# A checkpoint is whole as soon as its folder has its name, so a copy may be taken at any time.
copy_run() {
  [[ -d $work/run/checkpoints ]] || return 0
  tar -cf "$work/run.tar" -C "$work" --exclude=run/model --exclude=run/tb --exclude=run/run.lock run 2>/dev/null &&
    mv "$work/run.tar" "$out/run.tar"
  cp "$work/run/metrics.jsonl" "$out/" 2>/dev/null
}
copy_every_minute() { while sleep 60; do copy_run; done; }

train() { # WORKDIR, then config fields
  local workdir=$1
  shift
  "$python" -m train.main --config="configs/${name}_gpu.py" --workdir="$workdir" "${arguments[@]}" "$@"
}
# The time of a step in milliseconds, from the steps of a run after its first third.
step_time() {
  "$python" - "$1/metrics.jsonl" <<'END'
import json, sys

lines = [json.loads(line) for line in open(sys.argv[1])]
first, last = lines[len(lines) // 3], lines[-1]
print(round(1000 * (last["seconds"] - first["seconds"]) / (last["step"] - first["step"]), 2))
END
}

run() {
  if [[ -n $from ]]; then
    tar -xf "$from" -C "$work" || fail "$from cannot be unpacked"
    command=$(cat "$work/run/command")
    steps=${command##*--config.steps=}
    steps=${steps%% *} every=${command##*--config.checkpoint_every=}
    every=${every%% *}
  else
    echo "== timing a step"
    train "$work/timing" --config.steps=150 --config.checkpoint_every=150 --config.log_every=10 ||
      return
    local took
    took=$(step_time "$work/timing") || return
    # The rest of the time, without 30 seconds for the start and for the result.
    local left=$(( minutes * 60 - SECONDS - 30 ))
    (( left > 0 )) || { echo "error: $SECONDS of $((minutes * 60)) s went into the timing" >&2; return 2; }
    steps=$("$python" -c "print(max(int($left * 1000 / $took), 200))") || return
    every=$("$python" -c "print(max(min(int(60_000 / $took), $steps), 1))") || return
    echo "== a step takes $took ms: $steps steps in $left s, a checkpoint every $every steps"
  fi
  echo "== training"
  copy_every_minute >/dev/null 2>&1 &
  copier=$!
  train "$work/run" --config.steps="$steps" --config.checkpoint_every="$every" &
  local training=$!
  # The command stands in the workdir too, so that --from knows the number of steps.
  local shown="python -m train.main --config=configs/${name}_gpu.py --workdir=run ${arguments[*]:-} --config.steps=$steps --config.checkpoint_every=$every"
  until [[ -f $work/run/config.json ]] || ! kill -0 "$training" 2>/dev/null; do sleep 1; done
  [[ -d $work/run ]] && echo "$shown" | tee "$out/command" >"$work/run/command"
  wait "$training" || return
  tar -cf "$out/model.tar" -C "$work/run" model
}
{
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null ||
    echo "no nvidia-smi here"
  run
  status=$?
  echo "== status $status after $SECONDS s"
  echo "$status" >"$work/status"
} > >(tee "$out/train.log") 2>&1
copy_run
tar -cf "$out/compiled.tar" -C "$JAX_COMPILATION_CACHE_DIR" . 2>/dev/null
exit "$(cat "$work/status" 2>/dev/null || echo 2)"
