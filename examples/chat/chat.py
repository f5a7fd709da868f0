#!/usr/bin/env python3
"""A chat with rooms and nicknames. This listener keeps both and chooses the recipients of each message.

A client connects to /ROOM?nick=NAME and sends plain text. The text /nick NAME changes its nickname.
All clients in the room get {"from": …, "text": …} or {"info": …}.
"""
import json
import sys
from urllib.parse import parse_qs

rooms = {}  # path -> {conn: nick}
room_of = {}  # conn -> path


def write(thing):
    print(json.dumps(thing), flush=True)


def tell(path, info):
    """Sends a notice to a room."""
    members = list(rooms.get(path, {}))
    text = json.dumps({"info": info, "here": sorted(rooms.get(path, {}).values())})
    write({"command": "send", "message": text, "connections": members})


def opened(event):
    conn, path = event["conn"], event["path"]
    nick = parse_qs(event["query"]).get("nick", [conn])[0][:30]
    rooms.setdefault(path, {})[conn] = nick
    room_of[conn] = path
    # After a restart of this program, the gateway repeats the opens of all clients with `resumed`.
    if not event.get("resumed"):
        tell(path, f"{nick} came")


def closed(event):
    path = room_of.pop(event["conn"], None)
    if path is None:
        return
    nick = rooms[path].pop(event["conn"])
    if rooms[path]:
        tell(path, f"{nick} left")
    else:
        del rooms[path]


def message(event):
    if event["conn"] is None:  # a push (`wsgw send`) goes to all clients
        return write({"id": event["id"], "message": json.dumps({"info": event["message"]})})
    path = room_of.get(event["conn"])
    if path is None:  # after a restart: the sender has already left
        return write({"id": event["id"], "connections": []})
    nick = rooms[path][event["conn"]]
    text = event["message"]
    if text.startswith("/nick "):
        rooms[path][event["conn"]] = text[6:].strip()[:30]
        write({"id": event["id"], "connections": []})
        return tell(path, f"{nick} is now {rooms[path][event['conn']]}")
    body = json.dumps({"from": nick, "text": text})
    write({"id": event["id"], "message": body, "connections": list(rooms[path])})


handlers = {"onClientOpen": opened, "onClientClose": closed, "onMessage": message}
for line in sys.stdin:
    event = json.loads(line)
    if handler := handlers.get(event["event"]):
        handler(event)
