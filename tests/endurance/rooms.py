"""Rooms in the chaos: who is in them."""

ROOMS = [f"r{n}" for n in range(4)]
#: In which each client is that the listener was told of.
LOBBY = "lobby"

KEYS = """
streams = true
channels = "query"
allow-channels = ["r*"]
hooks = ["onClientOpen", "onClientClose", "onMessage", "onJoin", "onLeave"]
history = { channels = { "r*" = 20000 }, broadcast = 20000, bytes = "16MiB" }
"""


def query(rooms):
    return "&".join(f"channel={room}" for room in rooms)


def room_of(mode):
    """What a mode does, and with which room."""
    what, _, room = mode.partition("-")
    return what, room


class Stays:
    """Who was in which room at which place of the order, by what the witness saw."""

    def __init__(self, keys, modes, rooms):
        #: By label and room: where it came and went, in turn.
        self.turns = {(label, room): [-1] for label, own in rooms.items() for room in own}
        for place, key in enumerate(keys):
            what, room = room_of(modes[key])
            if what in ("join", "leave"):
                turns = self.turns.setdefault((key[0], room), [])
                if (len(turns) % 2 == 0) == (what == "join"):
                    turns.append(place)

    def has(self, label, room, place):
        return sum(at < place for at in self.turns.get((label, room), [])) % 2 == 1


def memberships(audit, pid, events):
    """What one incarnation was told of joins and leaves."""
    opened, rooms, joins = set(), {}, 0
    for event in events:
        kind, conn = event["event"], event["conn"]
        if kind == "onClientOpen":
            opened.add(conn)
        elif kind in ("onJoin", "onLeave"):
            joins += 1
            channel = event["channel"]
            audit.check(conn in opened, pid, conn, kind, "before its open, or after its close")
            audit.check(rooms.get((conn, channel)) != kind, pid, conn, kind, channel, "twice")
            audit.check(event["members"] >= (kind == "onJoin"), pid, conn, event)
            rooms[conn, channel] = kind
        elif kind == "onClientClose":
            opened.discard(conn)
            still = [key[1] for key, last in rooms.items() if key[0] == conn and last == "onJoin"]
            audit.check(not still, pid, conn, "closes and is still in", still)
            for channel in [*ROOMS, LOBBY]:
                rooms.pop((conn, channel), None)
    return joins
