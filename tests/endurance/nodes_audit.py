"""What has to hold of clients of several nodes, whatever happened to the nodes and their server."""

import asyncio

#: Faults of one kind that are told.
EXAMPLES = 12


def split(at):
    """Epoch and number of a position."""
    epoch, _, number = at.partition("-")
    return epoch, number_of(number)


def number_of(text):
    sequence, _, index = text.partition(".")
    # What a node gives that knows nothing of the stream yet has no index.
    return int(sequence), int(index or 0)


class Plan:
    """One message, as it was sent: by whom, at which node, in which life of it, to whom."""

    __slots__ = ("author", "number", "node", "lives", "room", "target", "status", "delivered")

    def __init__(self, author, number, node, lives, room, target):
        self.author, self.number, self.node, self.lives = author, number, node, lives
        self.room, self.target = room, target
        self.status = self.delivered = None


class Segment:
    """What a follower got without a gap: within one epoch, from `start` on, which it has itself or not."""

    def __init__(self, epoch, start, included, where):
        self.epoch, self.start, self.included, self.where = epoch, start, included, where
        self.got = []

    @property
    def end(self):
        return self.got[-1][0] if self.got else self.start


class Visit:
    """What a follower got by one connection: keys, with epoch and place, or with none."""

    def __init__(self, node, epoch, start, recovered):
        self.node, self.epochs, self.start, self.recovered = node, [epoch], start, recovered
        self.got = []


class Follower:
    """A client of `wsgw.v1` that resumes; it writes down what it gets."""

    def __init__(self, audit, label, rooms, home):
        self.audit, self.label, self.rooms, self.home = audit, label, rooms, home
        self.at = self.epoch = self.conn = self.client = None
        self.greeted = asyncio.Event()
        self.segments, self.visits = [], []
        #: Keys in the order in which they came, with their position or none, the node and its
        #: connection; `None` where it was told that it could not go on.
        self.log = []
        #: Speakers whose last message it got.
        self.ends = set()
        self.node = None

    def opening(self, node, lives):
        self.greeted.clear()
        self.node = (node, lives)

    def away(self):
        self.conn = None

    def heard(self, frame):
        if "hello" in frame:
            return self.hello(frame)
        if "message" not in frame:
            return self.audit.check(False, self.label, "got", frame)
        label, number = frame["message"].split(":", 2)[:2]
        key = f"{label}:{number}"
        if number == "end":
            self.ends.add(label.partition("-")[0])
        self.log.append((key, frame.get("at"), self.node, self.conn))
        epoch, place = split(frame["at"]) if "at" in frame else (None, None)
        visit = self.visits[-1]
        visit.got.append((key, epoch, place))
        if epoch and epoch != visit.epochs[-1]:
            visit.epochs.append(epoch)
        if epoch:
            if epoch != self.epoch:
                self.epoch = epoch
                self.segments.append(Segment(epoch, place, True, self.node))
            last = self.segments[-1].end
            fresh = not self.segments[-1].got and self.segments[-1].included
            self.audit.check(place > last or fresh, self.label, "got", frame["at"], "after", last)
            self.segments[-1].got.append((place, key))
            self.at = frame["at"]

    def hello(self, frame):
        self.conn = frame["conn"]
        gave, recovered = self.at, frame.get("recovered")
        self.audit.check((gave is None) == (recovered is None), self.label, "gave", gave, "was told", frame)
        epoch, place = split(frame["at"])
        self.visits.append(Visit(self.node, epoch, place, recovered))
        if recovered:
            self.audit.check(frame["at"] == gave, self.label, "gave", gave, "and is at", frame["at"])
            self.audit.recovered += 1
        else:
            if gave is not None:
                self.audit.not_recovered += 1
                self.log.append(None)
            self.segments.append(Segment(epoch, place, False, self.node))
        self.epoch, self.at = epoch, frame["at"]
        self.greeted.set()


class Audit:
    def __init__(self):
        self.problems = []
        #: How many there are in all, and how many are told.
        self.bad, self.most = 0, 40
        self.plans = {}
        self.recovered = self.not_recovered = 0
        self.numbers = {}
        #: Messages that came again after `recovered:false`.
        self.again = 0
        #: Nodes that were never killed.
        self.steady = set()

    def check(self, good, *what):
        if good:
            return
        self.bad += 1
        if len(self.problems) < self.most:
            self.problems.append(" ".join(str(w) for w in what))

    def more(self):
        """Each kind of fault has its examples."""
        self.most = len(self.problems) + EXAMPLES

    def plan(self, author, number, node, lives, room=None, target=None):
        """The key of a message that is about to be sent."""
        key = f"{author}:{number}"
        self.plans[key] = Plan(author, number, node, lives, room, target)
        return key

    def outcome(self, key, status, found):
        self.plans[key].status = status
        if status == 200:
            self.plans[key].delivered = found["delivered"]

    def run(self, followers, witnesses, lost, harmless=False):
        """With `harmless`, nothing was done that takes messages out of the stream, and the nodes hold."""
        self.more()
        truth = self.truth(followers)
        self.steady = {node for node, count in lost.items() if count is not None}
        self.more()
        for one in followers:
            self.once_and_in_order(one)
        self.more()
        for one in followers:
            for segment in one.segments:
                self.complete(one, segment, truth)
        self.more()
        self.same_at_one_node(followers)
        self.more()
        self.same_beside_each_other(witnesses)
        self.more()
        if harmless:
            self.whole(witnesses)
        self.missing(witnesses)
        self.numbers["epochs"] = len({segment.epoch for one in followers for segment in one.segments})
        self.more()
        self.private(followers)
        self.refused(followers)
        heard = {key for one in followers for key, *_ in filter(None, one.log)}
        for node, count in lost.items():
            if count is not None:
                self.lost(node, count, [one for one in witnesses if one.home == node], heard)

    def truth(self, followers):
        """What stands at each position; all must have seen the same there."""
        truth = {}
        for one in followers:
            for segment in one.segments:
                there = truth.setdefault(segment.epoch, {})
                for place, key in segment.got:
                    before = there.setdefault(place, key)
                    self.check(before == key, one.label, "got", key, "at", segment.epoch, place,
                               "where others got", before)
        for epoch, there in truth.items():
            doubles = len(there) - len(set(there.values()))
            self.check(not doubles, doubles, "messages stand twice in epoch", epoch)
        return {epoch: sorted(there.items()) for epoch, there in truth.items()}

    def once_and_in_order(self, one):
        self.again_of_one_node(one)
        seen, last, before = {}, {}, set()
        for entry in one.log:
            if entry is None:
                # It does not know what it will get again.
                before |= set(seen)
                seen, last = {}, {}
                continue
            key, at, node, _conn = entry
            self.again += key in before
            self.check(key in self.plans, one.label, "got what nobody sent:", key)
            self.check(key not in seen, one.label, "got", key, "twice: at", seen.get(key), "and", (at, node))
            seen[key] = (at, node)
            plan = self.plans.get(key)
            if plan is None:
                continue
            self.check(at or plan.target or plan.node == node[0], one.label, "at", node, "got", key,
                       "of node", plan.node, "without a position")
            if at and plan.author != "push":
                number = float("inf") if plan.number == "end" else plan.number
                self.check(number > last.get(plan.author, -1), one.label, "got", key, "after",
                           last.get(plan.author))
                last[plan.author] = number

    def again_of_one_node(self, one):
        """A node that cannot serve a position sends what is new, and nothing that it has sent before."""
        sent = set()
        for visit in one.visits:
            for key, epoch, place in visit.got:
                is_again = visit.recovered is False and (visit.node, key) in sent
                self.check(not is_again, one.label, "got", key, "again of node", visit.node, "at", epoch,
                           place)
                sent.add((visit.node, key))

    def complete(self, one, segment, truth):
        """Who was not told of a gap has none. What came in an earlier epoch may stand in this one again,
        and does not come twice."""
        got = {entry[0] for entry in one.log if entry}
        for place, key in truth.get(segment.epoch, []):
            plan = self.plans.get(key)
            inside = segment.start < place <= segment.end or segment.included and place == segment.start
            if inside and plan and (plan.room is None or plan.room in one.rooms) and key not in got:
                self.check(False, one.label, "missed", key, "at", segment.epoch, place, "between",
                           segment.start, "and", segment.end, "opened at", segment.where)

    def is_for(self, key, one):
        """Whether a message was for a follower, as for all, or for all of a room of its."""
        plan = self.plans.get(key)
        return plan and not plan.target and (plan.room is None or plan.room in one.rooms)

    def same_at_one_node(self, followers):
        """Who stays connected while the epoch changes gets what the others at its node get."""
        live, all_at = {}, {}
        for one in followers:
            for visit in one.visits:
                for key, epoch, place in visit.got:
                    if epoch:
                        all_at.setdefault((visit.node, epoch), {})[place] = key
                        if epoch != visit.epochs[0]:
                            live.setdefault((visit.node, epoch), {})[place] = key
        for one in followers:
            got = {entry[0] for entry in one.log if entry}
            for visit in one.visits:
                ends = {epoch: place for _, epoch, place in visit.got if epoch}
                first, *others = visit.epochs
                want = []
                if others:
                    end = ends.get(first, visit.start)
                    want += [(place, key) for place, key in all_at.get((visit.node, first), {}).items()
                             if place > end]
                for epoch in others:
                    want += [(place, key) for place, key in live.get((visit.node, epoch), {}).items()
                             if epoch != others[-1] or place <= ends[epoch]]
                for place, key in want:
                    self.check(key in got or not self.is_for(key, one), one.label, "missed", key, "at",
                               place, "of node", visit.node, "where the epochs are", visit.epochs)

    def same_beside_each_other(self, witnesses):
        """Two clients of one node get the same in the same order, with positions or without."""
        for one in witnesses:
            for other in witnesses:
                if one.label < other.label and one.home == other.home:
                    for visit in one.visits:
                        for beside in (v for v in other.visits if v.node == visit.node):
                            self.beside(one, visit, other, beside)

    def beside(self, one, visit, other, beside):
        mine, theirs = ([key for key, *_ in v.got if self.is_for(key, one)] for v in (visit, beside))
        common = set(mine) & set(theirs)
        if not common:
            return

        def between(keys):
            places = [n for n, key in enumerate(keys) if key in common]
            return keys[places[0]:places[-1] + 1]
        mine, theirs = between(mine), between(theirs)
        differ = next((n for n, (a, b) in enumerate(zip(mine, theirs)) if a != b), None)
        self.check(differ is None and len(mine) == len(theirs), one.label, "and", other.label, "at node",
                   visit.node, "differ:", mine[differ or 0:][:3], theirs[differ or 0:][:3],
                   len(mine), len(theirs))

    def whole(self, witnesses):
        """All messages came to all who were never told of a gap."""
        heard = {key for one in witnesses for key, *_ in filter(None, one.log)}
        for one in witnesses:
            if None in one.log:
                continue
            got = {entry[0] for entry in one.log}
            for key, plan in self.plans.items():
                sure = plan.author != "push" and plan.node in self.steady or plan.status == 200
                if (key in heard or sure) and self.is_for(key, one):
                    self.check(key in got, one.label, "missed", key, "of node", plan.node,
                               "though nothing can be missing")

    def missing(self, witnesses):
        """How many of the messages that somebody got each of them did not get, whatever they were told."""
        heard = {key for one in witnesses for key, *_ in filter(None, one.log)}
        for one in witnesses:
            got = {entry[0] for entry in one.log if entry}
            self.numbers[one.label] = sum(1 for key in heard - got if self.is_for(key, one))

    def private(self, followers):
        """A push to one connection reaches that one alone, if it says so."""
        heard = {}
        for one in followers:
            for key, _at, _node, conn in filter(None, one.log):
                plan = self.plans.get(key)
                if plan and plan.target:
                    self.check(plan.target == (one.label, conn), one.label, conn, "got", key, "which was for",
                               plan.target)
                    heard[key] = heard.get(key, 0) + 1
        self.numbers["private"] = len(heard)
        homes = {one.label: one.home for one in followers}
        for key, plan in self.plans.items():
            # The witnesses are never cut off from their node.
            if plan.target and plan.delivered == 1 and homes[plan.target[0]] in self.steady:
                self.check(key in heard, "push", key, "was delivered to", plan.target, "and did not come")

    def refused(self, followers):
        seen = {key for one in followers for key, *_ in filter(None, one.log)}
        for key, plan in self.plans.items():
            if plan.status is not None and plan.status != 200:
                self.check(key not in seen, "push", key, "was refused with", plan.status, "and sent")

    def lost(self, node, count, witnesses, heard):
        """What was said at a node came to its own clients, or it was counted as lost."""
        seen = set().union(*({key for key, *_ in filter(None, one.log)} for one in witnesses))
        own = [(key, plan) for key, plan in self.plans.items() if plan.node == node and not plan.target]
        missing = [key for key, plan in own if key not in seen and plan.status in (None, 200)]
        unknown = [key for key in missing if self.plans[key].author == "push"
                   and self.plans[key].status is None]
        sure = len(missing) - len(unknown)
        self.numbers[f"node{node}"] = f"{len(own)} said, {sure}+{len(unknown)} missing, {count} lost"
        self.check(sure <= count <= len(missing) + self.privately(node, heard), "node", node, "counts", count,
                   "as lost, missing are", sure, "and perhaps", len(unknown), missing[:5])

    def privately(self, node, heard):
        """Pushes to one connection that did not come, which may be lost as well."""
        return sum(1 for key, plan in self.plans.items()
                   if plan.node == node and plan.target and key not in heard)

    def summary(self):
        said = len(self.plans)
        return (f"{said} messages, recovered {self.recovered}, not {self.not_recovered} "
                f"(then {self.again} came again), {self.numbers}")
