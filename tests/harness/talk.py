"""Clients at several nodes that talk all the time, and what each of them has to hear."""

import json
import threading
import time
from collections import Counter

from .frames import Framed
from .process import PATIENCE


class Talk:
    """At each node a client that sends numbered messages, and one that hears all of them. A message is
    `NODE:NUMBER`, the last one of a node `NODE:end`."""

    def __init__(self, nodes, pause=0.005):
        self.nodes, self.pause = list(nodes), pause
        self.hearers = [Framed(node) for node in self.nodes]
        self.speakers = [node.connect() for node in self.nodes]
        self.sent = [0] * len(self.nodes)
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._speak, args=[n], daemon=True)
                        for n in range(len(self.nodes))]
        for thread in self.threads:
            thread.start()

    def _speak(self, n):
        while not self.over.is_set():
            self.speakers[n].send(f"{n}:{self.sent[n]}")
            self.sent[n] += 1
            time.sleep(self.pause)

    def said(self, n):
        return [f"{n}:{number}" for number in range(self.sent[n])]

    def end(self):
        """Nobody speaks any more; the frames with messages that each hearer got, up to the last ones."""
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        for n, speaker in enumerate(self.speakers):
            speaker.send(f"{n}:end")
        return [self._heard(hearer) for hearer in self.hearers]

    def _heard(self, hearer):
        waiting = {f"{n}:end" for n in range(len(self.nodes))}
        found = []
        while waiting:
            try:
                frame = hearer.frame()
            except TimeoutError:
                raise AssertionError(f"{waiting} is not heard, behind {found[-3:]}") from None
            if "message" in frame:
                found.append(frame)
                waiting.discard(frame["message"])
        return found


def check_one_order(heard, servers_lose=False):
    """What has a position stands at one place for all, in one order; nobody hears anything twice. Where
    `servers_lose` what they have acknowledged, a place may be taken again, in an epoch that ends then."""
    places, stands = {}, {}
    epochs = {frames[-1]["at"].partition("-")[0] for frames in heard if "at" in frames[-1]}
    for frames in heard:
        messages = [frame["message"] for frame in frames]
        twice = [message for message, times in Counter(messages).items() if times > 1]
        assert not twice, f"heard twice: {twice[:20]}"
        last, over = None, set()
        for frame in frames:
            if "at" not in frame:
                continue
            epoch, _, place = frame["at"].partition("-")
            place = tuple(map(int, place.split(".")))
            assert epoch not in over, f"an old epoch comes back: {frame}"
            if last and last[0] != epoch:
                over.add(last[0])
            assert last is None or last[0] != epoch or last[1] < place, (last, frame)
            last = (epoch, place)
            known = places.setdefault(frame["at"], frame["message"])
            there = stands.setdefault((epoch, frame["message"]), frame["at"])
            assert there == frame["at"] or servers_lose and epoch not in epochs, (
                f"{frame['message']} stands at {there} and at {frame['at']}")
            assert known == frame["message"] or servers_lose and epoch not in epochs, (
                f"two messages at {frame['at']}: {known}, {frame['message']}")


def check_all_heard(talk, heard):
    """Everybody has heard everything, in one order; each sender's in its order."""
    check_one_order(heard)
    first = [frame["message"] for frame in heard[0]]
    for n in range(len(talk.nodes)):
        mine = [message for message in first if message.startswith(f"{n}:")]
        assert mine == [*talk.said(n), f"{n}:end"], (
            f"of node {n}: {missing(talk.said(n), mine)}; heard {[len(frames) for frames in heard]}, from "
            f"{[frames[0]['at'] for frames in heard]} to {[frames[-1]['at'] for frames in heard]}")
    for frames in heard[1:]:
        there = [frame["message"] for frame in frames]
        assert there == first, f"another order or number: {missing(first, there)}"


def check_never_silent(talk, heard):
    """Within one epoch nobody misses anything of a sender. Between two epochs that may be."""
    check_one_order(heard, servers_lose=True)
    for who, frames in enumerate(heard):
        last = {}
        for frame in frames:
            sender, _, number = frame["message"].partition(":")
            number = talk.sent[int(sender)] if number == "end" else int(number)
            epoch = frame["at"].partition("-")[0]
            before = last.get(sender)
            assert before is None or before[0] != epoch or number == before[1] + 1, (
                f"at node {who} {sender}:{before[1] + 1} is missing in front of {frame}")
            last[sender] = (epoch, number)


def check_held(talk, heard):
    """Everybody has heard everything in one epoch. Servers before version 2.10.23 may lose what they have
    acknowledged when one of them is lost; then there is another epoch, and within each nobody misses anything."""
    if len({frame["at"].partition("-")[0] for frames in heard for frame in frames}) == 1:
        return check_all_heard(talk, heard)
    return check_never_silent(talk, heard)


def missing(want, have):
    lacks, more = sorted(set(want) - set(have)), sorted(set(have) - set(want))
    return json.dumps({"lacks": lacks[:20], "of": len(lacks), "more": more[:20]})
