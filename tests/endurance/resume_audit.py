"""What has to hold of clients that resume: `audit` compares what each received with what was published."""

import contextlib
import sqlite3
from bisect import bisect_right

#: The name of the channels that keep little begins with this.
SMALL = "s"
#: The newest number that a client is told may be older than the one that its history was looked up
#: with, by so many messages.
LATELY = 1000


class Published:
    """One message of the plan, as it was published."""

    __slots__ = ("author", "key", "sent_at", "targets")

    def __init__(self, key, targets, author, sent_at):
        self.key = key
        #: Channels in their order; none for all.
        self.targets = targets
        #: A follower's label and the number of its connection, or "push" and that of the stream.
        self.author = author
        self.sent_at = sent_at

    def first_of(self, mine):
        """The first of its channels that a client is in."""
        return next((name for name in self.targets or () if name in mine), None)


class Truth:
    """The one order, as the witness saw it."""

    def __init__(self, witness, published):
        account = witness.accounts[0]
        self.first, self.last = account.start, account.end
        self.keys = account.keys
        self.numbers = account.numbers
        self.by_channel, self.to_all = {}, []
        for number, key in zip(account.numbers, account.keys):
            entry = published.get(key)
            if entry is None or entry.targets is None:
                self.to_all.append(number)
            else:
                for name in entry.targets:
                    self.by_channel.setdefault(name, []).append(number)

    def between(self, channels, start, end):
        """The numbers that a client in these channels gets behind `start`, up to `end`."""
        found = set()
        for numbers in (self.to_all, *(self.by_channel.get(name, []) for name in channels)):
            found.update(numbers[bisect_right(numbers, start) : bisect_right(numbers, end)])
        return sorted(found)

    def key(self, number):
        return self.keys[number - self.first - 1]


def audit(witness, followers, published, outcomes, limits):
    """The problems. `outcomes` are keys that must have been published, and that must not have been;
    `limits` how many messages a small channel keeps, and each other."""
    problems = [problem for one in (witness, *followers) for problem in one.problems]
    if len(witness.accounts) != 1:
        return [*problems, f"the witness lost its place: {[a.lost for a in witness.accounts]}"]
    truth = Truth(witness, published)
    problems += order(truth, published, *outcomes)
    if list(truth.numbers) != list(range(truth.first + 1, truth.last + 1)):
        return [*problems, "the witness saw a gap in the numbers"]
    for one in followers:
        for account in one.accounts:
            last = account is one.accounts[-1]
            found = received(one, account, truth, truth.last if last else account.end)
            lost = account.lost and groundless(one, account.lost, truth, limits)
            problems += [problem for problem in (found, lost) if problem]
    return problems


def order(truth, published, must, must_not):
    """What the witness saw: each message once, each author's in the order in which it sent them."""
    problems, last = [], {}
    keys = set(truth.keys)
    if len(keys) != len(truth.keys):
        problems.append(f"{len(truth.keys) - len(keys)} messages were delivered twice")
    for what, wrong in (("were accepted and not published", must - keys),
                        ("were refused and published", must_not & keys)):
        if wrong:
            problems.append(f"{len(wrong)} messages {what}: {sorted(wrong)[:5]}")
    for key in truth.keys:
        author = published[key].author
        if key < last.get(author, -1):
            problems.append(f"message {key} of {author} came after {last[author]}")
        last[author] = key
    return problems[:20]


def received(one, account, truth, end):
    """Why what a client received is not what it had to."""
    expected = truth.between(one.channels, account.start, end)
    got = list(account.numbers)
    for number, key in zip(account.numbers, account.keys):
        if not truth.first < number <= truth.last or truth.key(number) != key:
            return f"{one.label} got {key} as number {number}, the witness did not"
    if got == expected:
        return None
    if sorted(got) == expected:
        return f"{one.label} got all its messages, in another order"
    missing = sorted(set(expected) - set(got))
    more = sorted(set(got) - set(expected))
    return (f"{one.label} ({one.channels}), from {account.start} to {end}: {len(missing)} messages are "
            f"missing {missing[:5]}, {len(more)} are not its own {more[:5]}, "
            f"{len(got) - len(set(got))} came twice")


def groundless(one, lost, truth, limits):
    """Why a position should have been recovered."""
    given, newest = lost
    lists = [(name, truth.by_channel.get(name, [])) for name in one.channels]
    for name, numbers in [*lists, (None, truth.to_all)]:
        behind = bisect_right(numbers, newest + LATELY) - bisect_right(numbers, given)
        if behind > limit_of(name, limits):
            return None
    return f"{one.label} could not resume at {given} of {newest}, although all of it was still kept"


def limit_of(name, limits):
    return limits[0] if name is not None and name.startswith(SMALL) else limits[1]


def in_the_file(path, witness, published, limits):
    """Why the rows of a history's file are not the newest messages of each channel."""
    truth = Truth(witness, published)
    rows = {}
    with contextlib.closing(sqlite3.connect(path)) as file:
        for seq, name, body in file.execute("SELECT seq, channel, body FROM messages ORDER BY seq"):
            body = body.decode() if isinstance(body, bytes) else body
            rows.setdefault(name, []).append((seq, int(body.partition(":")[0])))
    problems = []
    for name, numbers in [*truth.by_channel.items(), (None, truth.to_all)]:
        kept = [(number, truth.key(number)) for number in numbers[-limit_of(name, limits) :]]
        found = rows.pop(name, [])
        if found != kept:
            problems.append(f"the file has {len(found)} messages of {name}, not the newest {len(kept)}: "
                            f"{sorted(set(found) ^ set(kept))[:4]}")
    if rows:
        problems.append(f"the file has messages of {sorted(rows)[:3]}, which nobody published")
    return problems[:10]
