"""What has to hold after the chaos, whatever happened."""

import json

from rooms import Stays, memberships, room_of


class Seen:
    """What one connection received, in order."""

    def __init__(self, label):
        self.label = label
        #: The rooms that its URL named.
        self.rooms = []
        self.keys = []
        self.broken = []


def entitled(key, label, mode, witness, stays, place):
    """Whether a message of this mode, at this place of the order, is for that client."""
    sender = key[0]
    what, room = room_of(mode)
    if what == "to":
        return stays.has(label, room, place)
    if mode == "others":
        return sender != label
    if mode == "self":
        return sender == label or witness
    return mode not in ("deny", "poison")


def whole(parts):
    """Whether a message, in its parts, has the padding that it says."""
    size, _, padding = parts[4].partition(":")
    return int(size) == len(padding) == padding.count("p")


class Audit:
    def __init__(self):
        self.problems = []
        #: How many joins and leaves listeners were told.
        self.told = 0

    def check(self, good, *what):
        if not good and len(self.problems) < 40:
            self.problems.append(" ".join(str(w) for w in what))

    def messages(self, seen, witness, sent, stable, modes):
        """`witness` was there all the time; `stable` are labels whose senders nobody harmed."""
        for one in seen:
            self.check(not one.broken, one.label, "received what was never sent:", one.broken[:3])
            doubles = len(one.keys) - len(set(one.keys))
            self.check(not doubles, one.label, "received", doubles, "messages twice")
        place = {key: n for n, key in enumerate(witness.keys)}
        stays = Stays(witness.keys, modes, {one.label: one.rooms for one in seen})
        for one in seen:
            places = [place.get(key) for key in one.keys]
            lost = [key for key, at in zip(one.keys, places) if at is None]
            self.check(not lost, one.label, "received what the witness did not:", lost[:5])
            places = [at for at in places if at is not None]
            self.check(places == sorted(places), one.label, "saw another order than the witness")
            if not places:
                continue
            # From its first to its last, it got all that was for it.
            is_witness = one.label.startswith("witness")
            for at in range(places[0], places[-1] + 1):
                key = witness.keys[at]
                due = entitled(key, one.label, modes[key], is_witness, stays, at)
                if due and key not in set_of(one):
                    self.check(False, one.label, "missed", key, modes[key])
                    break
                if not due and modes[key].startswith("to-") and key in set_of(one):
                    self.check(False, one.label, "is not in that room:", key, modes[key])
                    break
        last = {}
        for key in witness.keys:
            label, number = key
            # Pushes come over connections of their own, side by side.
            self.check(
                label == "push" or number > last.get(label, -1),
                "of",
                label,
                "message",
                number,
                "came late",
            )
            last[label] = number
        leaked = {key for key in witness.keys if modes[key] in ("deny", "poison")}
        self.check(not leaked, "what was not to be sent was sent:", sorted(leaked)[:5])
        missing = [
            key
            for label in stable
            for key in ((label, n) for n in range(sent[label]))
            if key not in place and modes[key] != "deny"
        ]
        return missing

    def journal(self, path, labels):
        """Opens and closes balance, messages stand between them."""
        closes, last_pid, lives = {}, None, {}
        incarnations = {}
        for line in path.read_text().splitlines():
            batch = json.loads(line)
            last_pid = batch["pid"]
            incarnations.setdefault(last_pid, []).extend(batch["events"])
        denied = set()
        for pid, events in incarnations.items():
            opened, closed, top, left = set(), set(), 0, None
            fresh = False
            self.told += memberships(self, pid, events)
            for event in events:
                kind, conn = event["event"], event["conn"]
                if kind == "onResult":
                    # The witnesses are in each room while messages are sent to it.
                    self.check(event["count"] >= 2, pid, "has a room without the witnesses")
                    continue
                if kind in ("onJoin", "onLeave"):
                    continue
                again = event.get("redelivered")
                self.check(again or event["id"] > top, pid, "id", event["id"], "after", top)
                top = max(top, event["id"])
                if kind == "onClientOpen":
                    self.check(conn not in opened, pid, conn, "was opened twice")
                    opened.add(conn)
                    if event.get("resumed"):
                        self.check(
                            left is None or event["left"] == left - 1,
                            pid,
                            "left",
                            left,
                            "then",
                            event["left"],
                        )
                        self.check(not fresh, pid, "told a message before all was resumed")
                        left = event["left"]
                    lives.setdefault(conn, event["path"])
                    self.check(lives[conn] == event["path"], conn, "has two paths")
                elif kind == "onClientClose":
                    self.check(conn in opened, pid, conn, "closes without an open")
                    self.check(conn not in closes, conn, "closed twice")
                    closes[conn] = event["code"]
                    closed.add(conn)
                elif conn is not None:
                    fresh = True
                    self.check(conn not in closed, pid, conn, "says something after its close")
                    self.check(conn in opened or again, pid, conn, "says something before its open")
                    if ":deny:" in event["message"]:
                        label, number = event["message"].split(":")[1:3]
                        denied.add((label, int(number)))
            self.check(left in (None, 0) or pid != last_pid, pid, "left ended at", left)
            if pid == last_pid:
                self.check(
                    opened == closed,
                    "still open for the last listener:",
                    sorted(opened - closed)[:5],
                )
        return denied, len(incarnations), len(lives), len(closes)


def set_of(one):
    """The keys of a connection as a set, made once."""
    if not hasattr(one, "as_set"):
        one.as_set = set(one.keys)
    return one.as_set
