#!/usr/bin/env bash
# Sets everything up that the tests need, and runs them all. All of it lands under target/; Debian
# packages are installed by apt where this is root. Ends with "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
# Random cases are the same ones in every run; `cargo test` alone takes new ones.
export PROPTEST_RNG_SEED=10125
tools=$PWD/target/tests
mkdir -p "$tools"

passed=0 failed=0
log=$tools/log
say() { printf '\n== %s\n' "$*"; }
# One step that counts as one test.
step() {
  local name=$1; shift
  say "$name"
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}
# A suite that counts its tests itself; PATTERN finds the numbers in its output.
suite() {
  local name=$1 count=$2; shift 2
  say "$name"
  "$@" 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]} good bad
  read -r good bad < <("$count" "$log")
  # A suite that fails without a failed test did not even start.
  if [ "$status" -ne 0 ] && [ "${bad:-0}" -eq 0 ]; then bad=1; fi
  passed=$((passed + ${good:-0})) failed=$((failed + ${bad:-0}))
}
count_cargo() {
  awk '/^test result:/ { good += $4; bad += $6 } END { print good + 0, bad + 0 }' "$1"
}
count_pytest() {
  awk '/ in [0-9.]+s/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) good = $(i-1); if ($i ~ /^(failed|error)/) bad += $(i-1) } }
       END { print good + 0, bad + 0 }' "$1"
}
count_node() {
  awk '/^# pass/ { good = $3 } /^# fail/ { bad = $3 } END { print good + 0, bad + 0 }' "$1"
}
count_plain() {
  awk '/^[0-9]+ passed, [0-9]+ failed$/ { good = $1; bad = $3 } END { print good + 0, bad + 0 }' "$1"
}

say "set-up"
packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); }
need jq jq; need curl curl; need zsh zsh; need fish fish; need nginx nginx; need openssl openssl
need node nodejs; need npm npm; need chromium chromium; need vmstat procps; need cc build-essential
need caddy caddy; need haproxy haproxy; need systemd-analyze systemd; need dash dash; need awk mawk; need stdbuf coreutils
need unshare util-linux; need ip iproute2; need script bsdutils; need sqlite3 sqlite3
need tinyproxy tinyproxy; need microsocks microsocks; need nats-server nats-server
need dpkg-deb dpkg; need rpm rpm; need man man-db; need mandoc mandoc; need strip binutils; need setpriv util-linux
need python3 python3; python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "these Debian packages are missing, and only root may install them: ${packages[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # nginx and nats-server must not be started as services: the tests start their own.
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && policy=1
  fi
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null \
    || { echo "apt-get failed" >&2; exit 1; }
  [ -z "$policy" ] || rm -f /usr/sbin/policy-rc.d
fi
[ -x "$tools/py/bin/python" ] || python3 -m venv "$tools/py" || exit 1
"$tools/py/bin/pip" install -q --disable-pip-version-check -r tests/requirements.txt || exit 1
# The two that make packages, without optimization: that takes a minute, once.
for crate in cargo-deb@3.8.0 cargo-generate-rpm@0.21.1; do
  [ -e "$tools/cargo/$crate" ] && continue
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/cargo/target \
    cargo install --quiet --locked --debug --root "$tools/cargo" "$crate" || exit 1
  touch "$tools/cargo/$crate"
done
rm -rf "$tools/cargo/target"
mkdir -p "$tools/node"
cp tests/clients/node/package.json "$tools/node/"
(cd "$tools/node" && npm install --no-fund --no-audit --silent) || exit 1

step "cargo fmt" cargo fmt --check
step "cargo clippy" cargo clippy --quiet --all-targets --locked -- -D warnings
step "cargo deny" env PATH="$tools/py/bin:$PATH" cargo deny --locked check licenses bans sources
step "cargo deny, fuzz" env PATH="$tools/py/bin:$PATH" cargo deny --locked \
  --manifest-path fuzz/Cargo.toml check sources
step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --locked
suite "cargo test" count_cargo cargo test --locked --no-fail-fast
# In a directory of its own: in ours, cargo would take what it builds of the package for the build of these sources.
step "cargo publish" env CARGO_TARGET_DIR="$tools/publish" CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
  cargo publish --quiet --dry-run --allow-dirty --locked
say "cargo build"
cargo build --locked || exit 1
export WSGW_BIN=$PWD/target/debug/wsgw
suite "python" count_pytest "$tools/py/bin/python" -m pytest -q -n 4 --dist worksteal -p no:cacheprovider tests/e2e
export WSGW_PYTHON=$tools/py/bin/python
suite "node" count_node env NODE_PATH="$tools/node/node_modules" node --test --test-reporter=tap \
  tests/clients/node/*.test.cjs tests/clients/browser/*.test.cjs
for loss in local hold; do
  step "nodes, $loss" "$tools/py/bin/python" tests/endurance/nodes.py --seed 22 --seconds 60 --loss "$loss"
done
suite "autobahn" count_plain tests/clients/autobahn/run.sh

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
