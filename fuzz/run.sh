#!/usr/bin/env bash
# Fuzzes every target (or those named) for SECONDS each, 60 without a number:
#     fuzz/run.sh [SECONDS] [TARGET…]
# Sets up what it needs: cargo-fuzz under fuzz/target/tools, and a C++ compiler has to be there.
# What it learns stays in fuzz/corpus, what it finds in fuzz/artifacts. Exits with 1 if it found
# something; `cargo fuzz run TARGET FILE` runs a finding again.
set -uo pipefail
cd "$(dirname "$0")"
seconds=60
case ${1:-} in [0-9]*) seconds=$1; shift ;; esac

# The sanitizers' flags are unstable ones; a stable toolchain takes them so.
export RUSTC_BOOTSTRAP=1
tools=$PWD/target/tools
export PATH=$tools/bin:$PATH
if ! command -v cargo-fuzz >/dev/null; then
  cargo install --quiet --locked --version 0.13.2 --root "$tools" cargo-fuzz || exit 1
fi
if [ $# -eq 0 ]; then
  mapfile -t names < <(cd fuzz_targets && ls -- *.rs)
  set -- "${names[@]%.rs}"
fi

cargo fuzz build || exit 1
found=0
for target in "$@"; do
  mkdir -p "corpus/$target"
  if cargo fuzz run "$target" "corpus/$target" "seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    >"target/$target.log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "target/$target.log")
    printf '%-14s %12s executions in %s s\n' "$target" "$runs" "$seconds"
  else
    found=1
    printf '%-14s FOUND SOMETHING, see fuzz/target/%s.log\n' "$target" "$target"
    grep -m3 -E 'panicked at|ERROR: |Test unit written' -A1 "target/$target.log"
  fi
done
exit "$found"
