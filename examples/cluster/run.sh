#!/usr/bin/env bash
# Three nodes and a NATS server on this machine, until Ctrl-C. It needs nats-server and wsgw. Other ports than
# these: NATS_PORT=4223 PORT=10225 CONTROL_PORT=10235 (the nodes take three from each of the latter two).
#     examples/cluster/run.sh
#     wsgw connect ws://127.0.0.1:10225/room1    # in a second terminal
#     wsgw connect ws://127.0.0.1:10226/room1    # in a third one: what one sends, both see
set -euo pipefail
directory=$(mktemp -d)
config=$(cd "$(dirname "$0")" && pwd)/node.toml
nats=${NATS_PORT:-4223}
port=${PORT:-10225}
control=${CONTROL_PORT:-10235}
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null || true; wait || true; rm -rf "$directory"' EXIT
trap 'exit 0' INT TERM

cat >"$directory/nats.conf" <<END
listen: 127.0.0.1:$nats
jetstream { store_dir: "$directory/nats" }
END
nats-server -c "$directory/nats.conf" >"$directory/nats.log" 2>&1 &

for node in 1 2 3; do
  mkdir "$directory/$node"
  sed "s/4222/$nats/; s/name = .*/name = \"node $node\"/" "$config" >"$directory/$node/wsgw.toml"
  wsgw serve --config "$directory/$node/wsgw.toml" --port $((port + node - 1)) \
    --control 127.0.0.1:$((control + node - 1)) --log-dir "$directory/$node" --quiet &
done
wait
