"""Transactions whose coordinator and whose partitions are on different brokers: committed or aborted as a whole, everywhere.

    apart_transactions.py --bootstrap HOST:PORT,HOST:PORT

For each broker a producer whose transactional id that broker coordinates; each of its transactions writes to every partition
of a topic that all brokers lead some of. What must hold: a reader of committed records finds exactly the values of committed
transactions, each once and in order; a reader of all records finds the aborted ones too, so that they were there to be
hidden. Prints what it has found. Exits 1 if anything is amiss.
"""

import argparse
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

STATE_TOPIC = "__transaction_state"
TOPIC = "apart"
PARTITIONS = 6
# Of each producer, in order.
ENDS = ("commit", "abort", "commit", "abort", "abort", "commit")
LIMIT_S = 120


def until(what: str, look):
    """The first true answer within the limit."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"waited {LIMIT_S} s for {what}")


def leaders(admin: AdminClient, topic: str) -> dict:
    """Who leads each partition; nothing while one has no leader."""
    try:
        partitions = admin.list_topics(topic, timeout=10).topics[topic].partitions
    except KafkaException:
        return {}
    found = {number: partition.leader for number, partition in partitions.items()}
    return found if found and all(leader >= 0 for leader in found.values()) else {}


def state_partition(transactional_id: str, partitions: int) -> int:
    """As Kafka finds it: by Java's hash of the id."""
    value = 0
    for unit in transactional_id.encode("ascii"):
        value = (31 * value + unit) & 0xFFFFFFFF
    signed = value - (1 << 32) if value >> 31 else value
    return (0 if signed == -(1 << 31) else abs(signed)) % partitions


def producer(bootstrap: str, transactional_id: str) -> Producer:
    """Fences the one before, and waits until its last transaction has ended in every partition."""
    made = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": transactional_id, "transaction.timeout.ms": 60_000}
    )
    made.init_transactions(LIMIT_S)
    return made


def run(writer: Producer, transactional_id: str, number: int, end: str) -> None:
    writer.begin_transaction()
    for partition in range(PARTITIONS):
        writer.produce(TOPIC, f"{transactional_id}/{number}/{end}".encode(), partition=partition)
    if writer.flush(LIMIT_S) > 0:
        raise TimeoutError(f"{transactional_id}: transaction {number} can't be written")
    if end == "commit":
        writer.commit_transaction(LIMIT_S)
    else:
        writer.abort_transaction(LIMIT_S)


def read(bootstrap: str, isolation: str) -> dict:
    """Every partition's values, from its start to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "none",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    values, ended = {partition: [] for partition in range(PARTITIONS)}, set()
    end = time.monotonic() + LIMIT_S
    while len(ended) < PARTITIONS:
        if time.monotonic() > end:
            raise TimeoutError(f"{isolation}: partitions without an end: {set(range(PARTITIONS)) - ended}")
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is None:
            values[message.partition()].append(message.value().decode())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        else:
            raise KafkaException(message.error())
    consumer.close()
    return values


def by_writer(values: list, ids: list) -> dict:
    """Writers' transactions interleave as they like; each one's own are in order."""
    return {each: [value for value in values if value.split("/")[0] == each] for each in ids}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    bootstrap = parser.parse_args().bootstrap
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(LIMIT_S)
    # The first id brings the coordinators' topic into being.
    producer(bootstrap, "first")
    brokers = set(admin.list_topics(timeout=10).brokers)
    for topic in (TOPIC, STATE_TOPIC):
        until(f"leaders of {topic} on all of {brokers}", lambda: set(leaders(admin, topic).values()) == brokers)
    owners = leaders(admin, STATE_TOPIC)
    names = [f"id-{number}" for number in range(1000)]
    ids = [next(name for name in names if owners[state_partition(name, len(owners))] == each) for each in sorted(brokers)]

    writers = {each: producer(bootstrap, each) for each in ids}
    for number, end in enumerate(ENDS):
        for each, writer in writers.items():
            run(writer, each, number, end)
    for each in ids:
        producer(bootstrap, each)

    written = {each: [f"{each}/{number}/{end}" for number, end in enumerate(ENDS)] for each in ids}
    committed = {each: [value for value in values if value.endswith("/commit")] for each, values in written.items()}
    faults = []
    for isolation, expected in (("read_committed", committed), ("read_uncommitted", written)):
        for partition, values in read(bootstrap, isolation).items():
            if by_writer(values, ids) != expected or len(values) != sum(map(len, expected.values())):
                faults.append(f"{isolation} finds in partition {partition}: {values}, expected {expected}")
    print(f"{len(ids)} coordinators, {len(ENDS)} transactions of each over {PARTITIONS} partitions")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
