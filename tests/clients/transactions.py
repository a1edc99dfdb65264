"""What a client's transactions have to do, step by step, and the verdict on each.

Owns: the steps and what a reader of committed records must see of them. Knows no client. A failed step names the feature
that it shows; what comes after it isn't judged.
"""

import time

from drivers import Driver, Failed

COMMIT = "transactions: commit"
ABORT = "transactions: abort"
FENCE = "transactions: a zombie is fenced"
TIMEOUT = "transactions: abort on timeout"
CHAIN = "transactions: consume, transform, produce"
FEATURES = (COMMIT, ABORT, FENCE, TIMEOUT, CHAIN)

PARTITIONS = 2
LAST = "last"
HALF = "half"
LONG_MS = 60_000
# Kafka looks every 10 s for what has run too long.
SHORT_MS = 1_000


class Steps:
    def __init__(self, driver: Driver, topic: str):
        self.driver, self.topic = driver, topic
        self.outcomes, self.values = {}, {partition: [] for partition in range(PARTITIONS)}
        driver.listener = self.heard

    def heard(self, event: str, words: list) -> None:
        if event == "T":
            self.outcomes[(words[0], words[1])] = " ".join(words[2:])
        elif event == "V":
            self.values[int(words[0])].append(words[1])

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

    def sees(self, *expected: list, last: str = LAST) -> None:
        self.driver.do("stable", self.topic, PARTITIONS, last)
        for partition, values in enumerate(expected):
            if self.values[partition] != [*values, last]:
                raise Failed(f"partition {partition} has {self.values[partition]}, expected {[*values, last]}")


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


def fences(steps: Steps) -> None:
    """The one before is refused, and what it had begun is aborted."""
    steps.write("a", "zombie", "zombie")
    steps.succeeds("open", "b", steps.topic, LONG_MS)
    steps.write("b", "d", "d")
    steps.fails("end", "a", "commit")
    steps.succeeds("end", "b", "commit")


def times_out(steps: Steps) -> None:
    """Nobody waits for what has run too long, and it can't be committed any more."""
    steps.succeeds("open", "t", f"{steps.topic}-short", SHORT_MS)
    steps.write("t", "late", "late")
    time.sleep(SHORT_MS / 1000)
    steps.write("b", LAST, LAST)
    steps.succeeds("end", "b", "commit")
    # Ends only when the late one is decided.
    steps.sees(["a0", "a1", "a2", "c", "d"], ["b0", "b1", "b2", "d"])
    steps.fails("end", "t", "commit")


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
    steps.sees(expected, expected, last=f"{LAST}+")


def run(driver: Driver, topic: str, configs: str) -> dict:
    """The verdicts by feature."""
    verdicts = {}
    steps = Steps(driver, topic)
    shows = [lambda show=show: show(steps) for show in (commits, aborts, fences, times_out)]
    shows.append(lambda: chains(driver, topic, configs))
    for feature, show in zip(FEATURES, shows):
        try:
            show()
            verdicts[feature] = "yes"
        except Failed as failed:
            verdicts[feature] = f"no: {failed}"
            break
    return {feature: verdicts.get(feature, "no: not reached") for feature in FEATURES}
