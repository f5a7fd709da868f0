#!/usr/bin/env bash
# A client by curl and jq alone: sends each line of stdin, and prints each message.
#   bash talk.sh http://127.0.0.1:10125/lobby
url=${1:-http://127.0.0.1:10125/}
exec 3< <(exec curl -sN "$url?stream=lines")
# The first frame is the hello, which has the token.
read -r hello <&3 || { echo "no stream at $url" >&2; exit 1; }
token=$(jq -r .post <<<"$hello")
while IFS= read -r line; do
  curl -sf -H "X-Wsgw-Post: $token" -H 'Content-Type: text/plain' --data-raw "$line" "$url" || echo "not sent: $line" >&2
done <&0 &
jq -r --unbuffered '.message // empty' <&3
