#!/usr/bin/env bash
# The main job: evaluates the base model, fine-tunes it on Sudoku, evaluates the result, and writes
# a report, and a page that replays the denoising of some puzzles before and after.
#
#   bash scripts/sudoku.sh [--quick] [--seed=N] [--out=DIR]
#
# It takes about 20 minutes on two cores. --quick does the same on 4x4 puzzles in 5 minutes. If it
# is stopped, the same command goes on where it was. Results go to runs/ unless --out names a folder.
set -euo pipefail

quick=0 seed=0 out=
for arg in "$@"; do
  case "$arg" in
    --quick) quick=1 ;;
    --seed=*) seed=${arg#--seed=} ;;
    --out=*) out=${arg#--out=} ;;
    -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0"; exit 0 ;;
    *) echo "error: unknown argument '$arg': use --quick, --seed=N and --out=DIR" >&2; exit 2 ;;
  esac
done
# Bash would read 010 as 8 and refuse 08, and more than 18 digits would wrap round.
[[ $seed =~ ^0*([0-9]{1,18})$ ]] || {
  echo "error: --seed takes a whole number of at most 18 digits, not '$seed'" >&2
  exit 2
}
seed=${BASH_REMATCH[1]}
[[ -z $out || $out = /* ]] || out=$PWD/$out

started=$SECONDS
source "$(dirname "$0")/setup.sh"

if (( quick )); then
  config=configs/sudoku_quick.py minutes=5
  puzzles=(--box=2 --clues=6-8) before=(--generate=128) after=(--generate=256 --budgets=1,2,4,8,16)
else
  config=configs/sudoku.py minutes=20
  puzzles=(--box=3 --clues=kaggle,40-50) before=(--generate=64)
  after=(--generate=512,128 --nofull_steps --budgets=1,2,4,8,16,44 --budget_items=64)
fi
name=$(basename "$config" .py)-seed$seed
out=${out:-runs/$name}
mkdir -p "$out"

# A stage that fails ends the script, and the exit status is the stage's.
now=
ended() {
  local status=$?
  (( status == 0 )) || [[ -z $now ]] ||
    echo "error: stopped in $now; the same command goes on where it was" >&2
}
trap ended EXIT

stage() {
  now="stage $1 of 4 ($2)"
  local gone=$(( (SECONDS - started) / 60 )) promised=
  (( gone < minutes )) && promised=" of about $minutes"
  printf '\n== %d of 4: %s (%d%s minutes gone)\n' "$1" "$2" "$gone" "$promised"
}
# Evaluation puzzles come from the held-out split. No training run uses their seed.
puzzle_seed=$(( 1000 + seed ))
evaluate() {
  python -m train.evaluate --seed="$puzzle_seed" "${puzzles[@]}" "$@"
}

stage 1 "evaluating the base model"
evaluate --checkpoint=checkpoints/base "${before[@]}" --budgets= --nofull_steps --out="$out/base" \
  --page="$out/base/page.html"
stage 2 "fine-tuning"
# The next stage evaluates, so the run itself need not.
python -m train.main --config="$config" --config.seed="$seed" --workdir="$out/train" \
  --config.eval.every=0
stage 3 "evaluating the tuned model"
evaluate --checkpoint="$out/train/model" "${after[@]}" --out="$out/tuned" \
  --page="$out/tuned/page.html"
stage 4 "writing the report"
python -m train.report --base="$out/base" --tuned="$out/tuned" --workdir="$out/train" --out="$out"
python -m sample.page --from="$out/base/page.html" --from="$out/tuned/page.html" \
  --page="$out/page.html"
printf '\nDone in %d:%02d minutes: %s and %s\n' \
  $(( (SECONDS - started) / 60 )) $(( (SECONDS - started) % 60 )) "$out/REPORT.md" "$out/page.html"
