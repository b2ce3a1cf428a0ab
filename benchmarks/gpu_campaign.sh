#!/usr/bin/env bash
# What this package does on a GPU, measured on a bare machine without internet, in four stages.
#
#   benchmarks/gpu_campaign.sh STAGE OUT [RUN...] [--smoke]
#
#   check     the tests that need CUDA, and a training with a CUDA graph beside the same without
#   bench     benchmarks/step.py: the step against plain PyTorch and the GPU's measured peaks
#   train     the preset paper on Sprites, 50 epochs: both guides with both priors; and recipe, the
#             preset gpu
#   evaluate  a judge, then dsae evaluate and dsae swap of every run
#
# Each takes less than 8 minutes, all 25, and can be run alone: evaluate takes the runs that train
# left in WORK, or joins those whose parts lie in WEIGHTS. A stage leaves at most 8 files in OUT:
# JSON, Markdown, pictures, and after train the weights of the best run, in bfloat16, in parts
# under 15 MB. RUN names some of the runs of train and evaluate: full-standard, full-lstm,
# factorized-standard, factorized-lstm, recipe.
#
# The machine needs Python 3.11 and a CUDA PyTorch of 2.9 or newer, numpy, click, h5py, matplotlib,
# pillow, safetensors, scikit-learn, tqdm, opt-einsum, and pytest for check. Bring with the checkout:
#
#   WHEELS  a folder with what such an image lacks, the two wheels of Pyro, which are pure Python:
#             pip download --no-deps -d wheels pyro-ppl==1.9.2 pyro-api==0.1.2
#   SHEETS  the sheets of Sprites, half a megabyte, as dsae prepare sprites takes them; without
#           them the drawn toy-sprites stand in, and the tables say so
#
# Both are environment variables. WORK is the folder for data and runs, /tmp/campaign if not given;
# it has to outlive a stage only for evaluate. PYTHON is python3 if not given. For example, and on a
# CPU, on next to nothing, in three minutes for all stages:
#
#   WHEELS=wheels SHEETS=lpc benchmarks/gpu_campaign.sh train out recipe
#   benchmarks/gpu_campaign.sh check out --smoke
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-python3}
WORK=${WORK:-/tmp/campaign}
STAGE_SECONDS=420  # of the 480 that a stage has; the rest is for starting and writing
RUNS=(full-standard full-lstm factorized-standard factorized-lstm recipe)

usage() {
    sed -n '2,31s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

smoke=no
words=()
for word in "$@"; do
    if [ "$word" = --smoke ]; then smoke=yes; else words+=("$word"); fi
done
[ ${#words[@]} -ge 2 ] || usage
stage=${words[0]} out=$(realpath -m "${words[1]}") chosen=("${words[@]:2}")
[ ${#chosen[@]} -gt 0 ] || chosen=("${RUNS[@]}")
if [ $smoke = yes ]; then
    device=cpu epochs=1 shape=(--config "$ROOT/benchmarks/smoke.toml")
    data_options=(--characters 12) bench_seconds=1
else
    device=cuda epochs=50 shape=()
    data_options=() bench_seconds=30
fi
mkdir -p "$out" "$WORK"
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade \
        --target "$WORK/site" "$WHEELS"/*.whl
fi
export PYTHONPATH="$ROOT:$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
data=$WORK/data.h5

dsae() { "$PYTHON" -m pyro_dsae.cli "$@"; }
campaign() { "$PYTHON" "$ROOT/benchmarks/campaign.py" "$@"; }

prepare() {
    [ -e "$data" ] && return
    if [ -n "${SHEETS:-}" ]; then
        dsae prepare sprites "$data" --source "$SHEETS" "${data_options[@]}"
    else
        dsae prepare toy-sprites "$data" "${data_options[@]}"
    fi
}

# Options of dsae fit for a run of train.
options() {
    case $1 in
        recipe) echo --preset gpu --guide factorized ;;
        full-standard | full-lstm | factorized-standard | factorized-lstm)
            echo --preset paper --guide "${1%-*}" --prior "${1#*-}" ;;
        *) echo "no run is named $1; the runs are ${RUNS[*]}" >&2; return 1 ;;
    esac
}

check() {
    prepare
    "$PYTHON" -m pytest -q -p no:cacheprovider "$ROOT/tests/test_cuda.py" | tee "$out/tests.txt"
    for graph in off auto; do
        dsae fit "$data" "$WORK/check-$graph" --preset paper "${shape[@]}" --epochs 1 --device $device \
            --cuda-graph $graph --overwrite
    done
    campaign table "$out/check.json" "$out/check.md" "$WORK"/check-{off,auto}
}

bench() {
    if [ ! -e "$ROOT/benchmarks/step.py" ]; then
        echo "benchmarks/step.py is not here, so there is nothing to run" | tee "$out/bench.md"
        return
    fi
    "$PYTHON" "$ROOT/benchmarks/step.py" "$out/bench.md" "$out/bench.json" \
        --seconds $bench_seconds --device $device
}

# A run that is too slow for its share of the time ends early, with a checkpoint; the table says so.
train() {
    prepare
    local each=$((STAGE_SECONDS / ${#chosen[@]}))
    for run in "${chosen[@]}"; do
        local how
        how=$(options "$run")
        # shellcheck disable=SC2086
        timeout --signal TERM $each "$PYTHON" -m pyro_dsae.cli fit "$data" "$WORK/$run" \
            "${shape[@]}" --epochs $epochs --device $device $how --overwrite ||
            echo "$run ended early" >&2
    done
    campaign table "$out/train.json" "$out/train.md" "${chosen[@]/#/$WORK/}"
    campaign split "$out" "${chosen[@]/#/$WORK/}"
}

evaluate() {
    prepare
    if [ -n "${WEIGHTS:-}" ]; then campaign join "$WEIGHTS" "$WORK"; fi
    local scored=(--only similarity)  # the rest takes a CPU minutes
    if [ $smoke = no ]; then
        dsae judge "$data" "$WORK/judge.safetensors" --device $device --overwrite
        scored=(--judge "$WORK/judge.safetensors")
    fi
    for run in "${chosen[@]}"; do
        [ -e "$WORK/$run/model.safetensors" ] || continue
        dsae evaluate "$WORK/$run" --data "$data" --device $device "${scored[@]}"
        dsae swap "$WORK/$run" --data "$data" --device $device --out "$WORK/$run/figures"
        cp "$WORK/$run/figures/swap.png" "$out/$run.png"
    done
    campaign scores "$out/evaluate.json" "$out/evaluate.md" "${chosen[@]/#/$WORK/}"
}

case $stage in
    check | bench | train | evaluate) "$stage" ;;
    *) usage ;;
esac
