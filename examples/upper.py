#!/usr/bin/env python3
"""Sends each message to all clients, in upper case."""
import json
import sys

for line in sys.stdin:
    event = json.loads(line)
    if event["event"] == "onMessage":
        event["message"] = event["message"].upper()
        print(json.dumps(event), flush=True)
