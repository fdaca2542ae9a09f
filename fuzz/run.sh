#!/usr/bin/env bash
# Fuzzes one target: run.sh TARGET [EXECUTIONS [SECONDS]]
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1 runs=${2:-1000000} seconds=${3:-3600}
seeds=("fuzz/seeds/$target")
# Of the size of weights, so that they are not kept twice.
if [ "$target" = torch ]; then
    seeds+=(crates/engine/tests/torch/opt-tied crates/engine/tests/torch/neo-legacy)
fi
mkdir -p "fuzz/corpus/$target"
export RUSTC_BOOTSTRAP=1
# On one small file, more threads only wait for each other.
export RAYON_NUM_THREADS=1
# Files are written for every execution: to memory, where there is such a folder.
if [ -d /dev/shm ]; then export TMPDIR=/dev/shm; fi
exec cargo fuzz run --sanitizer none --release "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
    -runs="$runs" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1
