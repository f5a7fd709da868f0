#!/usr/bin/env bash
# Sets up what the tests need and runs all of them. Ends with one line, `N passed, N failed`.
#
# Programs are installed by apt where this runs as root on Debian; libraries go below target/.
# A tool that is missing in the end is a failure: no test is skipped for it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

passed=0
failed=0
logs=target/test-logs
mkdir -p "$logs"

say() { printf '\n== %s\n' "$*"; }

# One check that either holds or not.
check() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED: $name"
  fi
}

# Runs a suite into a log that is shown, too. `$status` is its exit status.
suite() {
  local name=$1
  shift
  say "$name"
  "$@" 2>&1 | tee "$logs/$name.log"
  status=${PIPESTATUS[0]}
}

# Adds a suite's counts; one that failed without a failed test (it did not even run) counts as one.
count() {
  local ok=$1 bad=$2
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$status" -eq 0 ] && [ "$ok" -eq 0 ]; then bad=1; fi
  passed=$((passed + ok))
  failed=$((failed + bad))
}

sum() { awk '{ n += $1 } END { print n + 0 }'; }

# Programs.

declare -A package=(
  [jq]=jq [chromium]=chromium [zsh]=zsh [fish]=fish [nginx]=nginx-light [caddy]=caddy
  [node]=nodejs [npm]=npm [python3]=python3 [curl]=curl [vmstat]=procps
  [systemd-analyze]=systemd [openssl]=openssl
)
has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
missing() {
  local tool
  for tool in "${!package[@]}"; do has "$tool" || echo "${package[$tool]}"; done
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}
quiet() { "$@" >"$logs/apt.log" 2>&1 || { tail -20 "$logs/apt.log"; return 1; }; }
apt_install() {
  # nginx and Caddy must not be started, nor take a port.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && ours=1
  fi
  export DEBIAN_FRONTEND=noninteractive
  quiet apt-get install -y --no-install-recommends "$@" ||
    { quiet apt-get update && quiet apt-get install -y --no-install-recommends "$@"; }
  local done=$?
  [ -z "$ours" ] || rm -f $policy
  return $done
}

say "programs"
mapfile -t wanted < <(missing | sort -u)
if [ ${#wanted[@]} -gt 0 ]; then
  echo "missing: ${wanted[*]}"
  if [ "$(id -u)" = 0 ] && has apt-get; then
    apt_install "${wanted[@]}" || echo "apt-get could not install them"
  else
    echo "install them: the tests that use them fail"
  fi
fi

# Libraries, each set once for the versions that are asked for.

python_setup() {
  local stamp=target/py/requirements.txt
  cmp -s tests/py/requirements.txt $stamp && return
  rm -rf target/py/venv &&
    python3 -m venv target/py/venv &&
    target/py/venv/bin/pip install -q -r tests/py/requirements.txt &&
    cp tests/py/requirements.txt $stamp
}
node_setup() {
  local stamp=target/node/installed.json
  cmp -s tests/node/package.json $stamp && return
  mkdir -p target/node &&
    cp tests/node/package.json target/node/package.json &&
    rm -f target/node/package-lock.json &&
    npm install --prefix target/node --ignore-scripts --no-audit --no-fund --loglevel=error &&
    cp tests/node/package.json $stamp
}
check "python libraries" python_setup
check "node libraries" node_setup

# The crate.

check "cargo fmt" cargo fmt --all --check
check "cargo clippy" cargo clippy --all-targets --quiet -- -D warnings
check "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet
check "cargo build" cargo build --quiet

suite cargo-test cargo test --quiet --no-fail-fast
results=$(grep -E '^test result:' "$logs/cargo-test.log")
count "$(grep -oE '[0-9]+ passed' <<<"$results" | sum)" "$(grep -oE '[0-9]+ failed' <<<"$results" | sum)"

# The binary from outside.

export WSGW_BIN=${WSGW_BIN:-$PWD/target/debug/wsgw}
export WSGW_PYTHON=$PWD/target/py/venv/bin/python3
workers=${WORKERS:-4}

for directory in tests/contract tests/py; do
  suite "pytest-${directory#tests/}" target/py/venv/bin/python3 -m pytest -p no:cacheprovider -q \
    -n "$workers" "$directory"
  # Of the last line alone: `2 failed, 10 passed, 1 error in 3.21s`.
  last=$(grep -E '(passed|failed|error).* in [0-9.]+s' "$logs/pytest-${directory#tests/}.log" | tail -1)
  count "$(grep -oE '[0-9]+ passed' <<<"$last" | sum)" \
    "$(grep -oE '[0-9]+ (failed|errors?)' <<<"$last" | sum)"
done

suite node env NODE_PATH="$PWD/target/node/node_modules" \
  node --test --test-concurrency=2 --test-reporter=tap tests/node/*.test.cjs tests/browser/*.test.cjs
count "$(grep -oE '^# pass [0-9]+' "$logs/node.log" | grep -oE '[0-9]+' | sum)" \
  "$(grep -oE '^# (fail|cancelled) [0-9]+' "$logs/node.log" | grep -oE '[0-9]+' | sum)"

say "failures"
grep -hE '^(FAILED|ERROR) |^not ok|^test .* FAILED$|^    [a-z_:]+$' "$logs"/*.log | sort -u | head -50
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
