#!/usr/bin/env python3
"""A listener that says what its clients tell it to say, and records what it is told.

    say_listener.py RECORD [PREFIX]

A message that is a JSON array holds lines, in which "ID" and CONN stand for the event's; the query of
an open may hold such lines, too (`say=`). Any other message is sent on, behind the prefix; one like
`*300000` is so many bytes.
"""

import json
import sys
import urllib.parse


def main():
    record = open(sys.argv[1], "a", buffering=1)
    prefix = sys.argv[2] if len(sys.argv) > 2 else ""
    if prefix.startswith("*"):
        prefix = "p" * int(prefix[1:])
    for line in sys.stdin:
        record.write(line)
        event = json.loads(line)
        kind, say = event["event"], []
        if kind == "onClientOpen":
            say = json.loads(urllib.parse.parse_qs(event["query"]).get("say", ["[]"])[0])
        elif kind == "onMessage" and event["message"].startswith("["):
            say = json.loads(event["message"])
        elif kind == "onMessage":
            say = [{"id": event["id"], "message": prefix + event["message"]} if prefix else event]
        for one in say:
            text = json.dumps(one).replace('"ID"', str(event["id"])).replace("CONN", str(event["conn"]))
            print(text, flush=True)


if __name__ == "__main__":
    main()
