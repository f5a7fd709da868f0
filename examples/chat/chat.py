#!/usr/bin/env python3
"""A chat with rooms and nicknames: the listener keeps them and picks who gets what.

A client connects to /ROOM?nick=NAME and sends plain text; /nick NAME renames it.
Everybody in the room gets {"from": …, "text": …} or {"info": …}.
"""
import json
import sys
from urllib.parse import parse_qs

rooms = {}  # path -> {conn: nick}
room_of = {}  # conn -> path


def write(thing):
    print(json.dumps(thing), flush=True)


def tell(path, info):
    """Says something to a room, unasked."""
    members = list(rooms.get(path, {}))
    text = json.dumps({"info": info, "here": sorted(rooms.get(path, {}).values())})
    write({"command": "send", "message": text, "connections": members})


def opened(event):
    conn, path = event["conn"], event["path"]
    nick = parse_qs(event["query"]).get("nick", [conn])[0][:30]
    rooms.setdefault(path, {})[conn] = nick
    room_of[conn] = path
    # After a restart of this program the gateway tells it of everybody once more: not news.
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
    if event["conn"] is None:  # a push (`wsgw send`) goes to everybody
        return write({"id": event["id"], "message": json.dumps({"info": event["message"]})})
    path = room_of.get(event["conn"])
    if path is None:  # after a restart: its sender had left before
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
