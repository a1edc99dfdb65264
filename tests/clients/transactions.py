"""What a client's transactions have to do, step by step, and the verdict on each.

Owns: the steps and what a reader of committed records must see of them. Knows no client. A failed step names the feature
that it shows; what comes after it isn't judged.
"""

import signal
import time
from typing import Callable

from drivers import Driver, Failed

COMMIT = "transactions: commit"
ABORT = "transactions: abort"
FENCE = "transactions: a zombie is fenced"
TIMEOUT = "transactions: abort on timeout"
CHAIN = "transactions: consume, transform, produce"
READ = "transactions: read_committed, read_uncommitted"
FEATURES = (COMMIT, ABORT, FENCE, TIMEOUT, READ, CHAIN)

PARTITIONS = 2
LAST = "last"
HALF = "half"
LONG_MS = 60_000
# Two writes must fit into it on any machine. (Kafka looks every 10 s only for what has run too long.)
SHORT_MS = 6_000


class Steps:
    def __init__(self, driver: Driver, topic: str):
        self.driver, self.topic = driver, topic
        self.outcomes, self.values = {}, {}
        driver.listener = self.heard

    def heard(self, event: str, words: list) -> None:
        if event == "T":
            self.outcomes[(words[0], words[1])] = " ".join(words[2:])
        elif event == "V":
            self.values[int(words[0])].append(words[1])
        else:
            raise Failed(f"the driver said {event} {words}")

    def step(self, command: str, name: str, *more) -> str:
        self.outcomes.pop((name, command), None)
        self.driver.tell(command, name, *more)
        self.driver.wait(f"{command} {name}", lambda: (name, command) in self.outcomes, lambda: 0)
        return self.outcomes[(name, command)]

    def succeeds(self, command: str, name: str, *more) -> None:
        outcome = self.step(command, name, *more)
        if outcome != "ok":
            raise Failed(f"{command} {name} {more}: {outcome}")

    def fails(self, command: str, name: str, *more) -> None:
        outcome = self.step(command, name, *more)
        if not outcome.startswith("failed"):
            raise Failed(f"{command} {name} {more} succeeded")

    def write(self, name: str, *values: str) -> None:
        """The first value to the first partition, the second to the second; an empty one: nothing."""
        for partition, value in enumerate(values):
            if value:
                self.succeeds("write", name, self.topic, partition, value)

    def found(self, isolation: str, last: str = LAST) -> dict:
        """By partition what such a reader finds, up to the last."""
        self.values = {partition: [] for partition in range(PARTITIONS)}
        self.driver.do("scan", self.topic, PARTITIONS, last, isolation)
        return {partition: values[: values.index(last)] for partition, values in self.values.items()}

    def sees(self, isolation: str, *expected: list, last: str = LAST) -> None:
        for partition, found in self.found(isolation, last).items():
            if found != expected[partition]:
                raise Failed(f"{isolation} finds {found} in partition {partition}, expected {expected[partition]}")


def commits(steps: Steps) -> None:
    steps.succeeds("open", "a", steps.topic, LONG_MS)
    for round in range(3):
        steps.write("a", f"a{round}", f"b{round}")
        steps.succeeds("end", "a", "commit")


def aborts(steps: Steps) -> None:
    steps.write("a", "aborted", "aborted")
    steps.succeeds("end", "a", "abort")
    steps.write("a", "c")
    steps.succeeds("end", "a", "commit")


def fences(steps: Steps, start: Callable) -> None:
    """A process that stood still while another took its place is refused when it goes on, by the partition and by the
    coordinator, and what it had begun is aborted."""
    zombie = start()
    try:
        theirs = Steps(zombie, steps.topic)
        ids = {"writes": f"{steps.topic}-writes", "commits": f"{steps.topic}-commits"}
        for name, each in ids.items():
            theirs.succeeds("open", name, each, LONG_MS)
            theirs.write(name, f"zombie-{name}", f"zombie-{name}")
        zombie.process.send_signal(signal.SIGSTOP)
        for name, each in ids.items():
            steps.succeeds("open", f"b-{name}", each, LONG_MS)
            steps.write(f"b-{name}", f"d-{name}", f"d-{name}")
        # Ended already: kafka-python 3.0.12, refused by a partition, asks for its id as if it were new, and has the place again.
        steps.succeeds("end", "b-writes", "commit")
        zombie.process.send_signal(signal.SIGCONT)
        theirs.fails("write", "writes", theirs.topic, 0, "ghost")
        theirs.fails("end", "commits", "commit")
        steps.succeeds("end", "b-commits", "commit")
    finally:
        zombie.kill()


def times_out(steps: Steps) -> None:
    """Nobody waits for what has run too long, and it can't be committed any more."""
    steps.succeeds("open", "t", f"{steps.topic}-short", SHORT_MS)
    steps.write("t", "late", "late")
    time.sleep(SHORT_MS / 1000)
    steps.write("a", LAST, LAST)
    steps.succeeds("end", "a", "commit")
    # Ends only when the late one is decided.
    steps.found("read_committed")
    steps.fails("end", "t", "commit")


def reads(steps: Steps) -> None:
    """Who reads what is committed finds that and nothing else; who reads everything, what was aborted too."""
    taken_over = ["d-writes", "d-commits"]
    zombies = ["zombie-writes", "zombie-commits"]
    steps.sees("read_committed", ["a0", "a1", "a2", "c", *taken_over], ["b0", "b1", "b2", *taken_over])
    others = [*zombies, *taken_over, "late"]
    steps.sees("read_uncommitted", ["a0", "a1", "a2", "aborted", "c", *others], ["b0", "b1", "b2", "aborted", *others])


def chains(driver: Driver, topic: str, configs: str) -> None:
    """Each committed value of one topic is in the other exactly once, though transactions are aborted, another takes over in
    the middle, and what it takes over from goes on."""
    source, sink, group = f"{topic}-in", f"{topic}-out", f"{topic}-chain"
    for each in (source, sink):
        driver.do("create", each, PARTITIONS, configs)
    steps = Steps(driver, source)
    values = [f"v{number}" for number in range(4)]
    steps.succeeds("open", "in", f"{topic}-source", LONG_MS)
    for each in (*values[:2], HALF):
        steps.write("in", each, each)
    steps.succeeds("end", "in", "commit")
    steps.write("in", "aborted", "aborted")
    steps.succeeds("end", "in", "abort")
    steps.succeeds("open", "first", f"{topic}-chain", LONG_MS)
    steps.succeeds("chain", "first", source, sink, group, PARTITIONS, HALF)
    for each in (*values[2:], LAST):
        steps.write("in", each, each)
    steps.succeeds("end", "in", "commit")
    steps.succeeds("open", "second", f"{topic}-chain", LONG_MS)
    steps.succeeds("chain", "second", source, sink, group, PARTITIONS, LAST)
    steps.topic = sink
    expected = [f"{value}+" for value in (*values[:2], HALF, *values[2:])]
    steps.sees("read_committed", expected, expected, last=f"{LAST}+")
    # What the first, aborted transactions had passed on is there.
    everything = steps.found("read_uncommitted", last=f"{LAST}+")
    if sum(map(len, everything.values())) <= PARTITIONS * len(expected):
        raise Failed(f"read_uncommitted finds {everything}, and nothing that was aborted")


def run(driver: Driver, start: Callable, topic: str, configs: str, wanted: tuple = FEATURES) -> dict:
    """The verdicts by feature. `start` makes another process of the same client."""
    verdicts = {}
    steps = Steps(driver, topic)
    shows = [lambda: commits(steps), lambda: aborts(steps), lambda: fences(steps, start), lambda: times_out(steps)]
    shows += [lambda: reads(steps), lambda: chains(driver, topic, configs)]
    for feature, show in zip(FEATURES, shows):
        if feature not in wanted:
            continue
        try:
            show()
            verdicts[feature] = "yes"
        except Failed as failed:
            verdicts[feature] = f"no: {failed}"
            break
    return {feature: verdicts.get(feature, "no: not reached") for feature in wanted}
