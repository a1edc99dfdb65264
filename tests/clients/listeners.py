"""Connects through each of several listeners: which brokers clients are told there, and that these can be reached.

    listeners.py --topic T --listener BOOTSTRAP=HOST:PORT,HOST:PORT [--listener ...]

Behind the equals sign stand the brokers, in the order of their ids. With librdkafka and with kafka-python; a record goes into
each partition of the topic (4, made when they are first asked for) and is read back, by a member of a group, through the same
listener. Exits 1 with what is amiss.
"""

import argparse
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient

LIMIT_S = 60
PARTITIONS = 4


def told_to_librdkafka(bootstrap: str) -> list[str]:
    metadata = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=LIMIT_S)
    return [f"{broker.host}:{broker.port}" for _, broker in sorted(metadata.brokers.items())]


def told_to_kafka_python(bootstrap: str) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        brokers = admin.describe_cluster()["brokers"]
    finally:
        admin.close()
    by_id = sorted((broker.get("broker_id", broker.get("node_id")), broker) for broker in brokers)
    return [f"{broker['host']}:{broker['port']}" for _, broker in by_id]


def round_trip(bootstrap: str, topic: str) -> None:
    """Every broker that leads or coordinates something is spoken to."""
    run = uuid.uuid4().hex
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    sent = {f"{run} {partition}" for partition in range(PARTITIONS)}
    failed = []
    for partition, value in enumerate(sorted(sent)):
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: error and failed.append(error))
    left = producer.flush(LIMIT_S)
    if left or failed:
        raise AssertionError(f"{bootstrap}: {left} records without an answer, failed: {failed}")
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": run, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    until = time.monotonic() + LIMIT_S
    missing = set(sent)
    while missing and time.monotonic() < until:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            missing.discard(message.value().decode())
    consumer.close()
    if missing:
        raise AssertionError(f"{bootstrap}: not read back: {missing}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--topic", required=True)
    parser.add_argument("--listener", action="append", required=True)
    arguments = parser.parse_args()
    for listener in arguments.listener:
        bootstrap, expected = listener.split("=")
        for told in (told_to_librdkafka, told_to_kafka_python):
            found = told(bootstrap)
            if found != expected.split(","):
                print(f"{bootstrap}: {told.__name__}: {found}, expected {expected}", file=sys.stderr)
                return 1
        round_trip(bootstrap, arguments.topic)
        print(f"{bootstrap}: told {expected}, all reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
