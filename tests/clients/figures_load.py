"""Produces or consumes as fast as librdkafka can, for benches: the server's CPU is measured by the caller.

    figures_load.py produce --bootstrap HOST:PORT --topic T --records N
    figures_load.py consume --bootstrap HOST:PORT --topic T --records N [--repeat R]
    figures_load.py sync    --bootstrap HOST:PORT --topic T --records N   one record at a time, each acknowledged before the next
    figures_load.py flush   --bootstrap HOST:PORT --topic T --records N   16 idempotent producers that flush every 100 records
    figures_load.py transact --bootstrap HOST:PORT --topic T --records N  16 producers with a transaction every 100 records

Prints one line of JSON: bytes of values, records, seconds; of sync also the percentiles of one record's time.
"""

import argparse
import json
import os
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4
VALUE_BYTES = 1024
NO_PROGRESS_S = 60
WARM_UP = 200
PRODUCERS = 16
AT_ONCE = 100


def produce(given) -> tuple:
    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic(given.topic, PARTITIONS, 1)])[given.topic].result(timeout=60)
    failed = []
    producer = Producer(
        {
            "bootstrap.servers": given.bootstrap,
            "acks": "all",
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 200_000,
            "error_cb": failed.append,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: failed.append(error) if error else None,
        }
    )
    # Noise, so that nothing on the way gets smaller; a different window of it each time.
    noise = os.urandom(1 << 20)
    for number in range(given.records):
        start = number * 997 % (len(noise) - VALUE_BYTES)
        while True:
            try:
                producer.produce(given.topic, noise[start : start + VALUE_BYTES], partition=number // 512 % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(300) or failed:
        sys.exit(f"not all records were delivered: {failed[:3]}")
    return given.records * VALUE_BYTES, given.records


def consume(given) -> tuple:
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": "figures",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 65_536,
            # A full queue is looked at again soon, not after a second: it is the server that is measured.
            "fetch.queue.backoff.ms": 10,
        }
    )
    bytes_, records, since = 0, 0, time.monotonic()
    begin = [TopicPartition(given.topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)]
    while records < given.records * given.repeat:
        if records % given.records == 0:
            consumer.assign(begin)
        for message in consumer.consume(10_000, 0.5):
            if message.error() is None:
                bytes_ += len(message.value())
                records += 1
                since = time.monotonic()
        if time.monotonic() - since > NO_PROGRESS_S:
            sys.exit(f"no record for {NO_PROGRESS_S} s, {records} of {given.records} read")
    consumer.close()
    return bytes_, records


def sync(given) -> tuple:
    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic(given.topic, 1, 1)])[given.topic].result(timeout=60)
    taken = []
    producer = Producer({"bootstrap.servers": given.bootstrap, "acks": "all", "linger.ms": 0})
    for number in range(given.records + WARM_UP):
        begun = time.perf_counter()
        producer.produce(given.topic, b"x" * 100, partition=0)
        if producer.flush(60):
            sys.exit("a record was not acknowledged within 60 s")
        if number >= WARM_UP:
            taken.append((time.perf_counter() - begun) * 1e6)
    taken.sort()
    percentiles = {"p50_us": taken[len(taken) // 2], "p99_us": taken[len(taken) * 99 // 100]}
    return given.records * 100, given.records, percentiles


def by_hundreds(given) -> tuple:
    """Many producers side by side, each with a partition of its own; the time is from when all of them are ready."""
    admin = AdminClient({"bootstrap.servers": given.bootstrap, "log_level": 2})
    admin.create_topics([NewTopic(given.topic, PRODUCERS, 1)])[given.topic].result(timeout=60)
    rounds, failed = given.records // (PRODUCERS * AT_ONCE), []
    ready = threading.Barrier(PRODUCERS + 1)

    def work(number: int) -> None:
        settings = {"bootstrap.servers": given.bootstrap, "enable.idempotence": True, "linger.ms": 0}
        if given.what == "transact":
            settings["transactional.id"] = f"{given.topic}-{number}"
        settings |= {"delivery.report.only.error": True, "on_delivery": lambda error, _: failed.append(error) if error else None}
        producer = Producer(settings)
        if given.what == "transact":
            producer.init_transactions(60)
        for _ in range(WARM_UP // AT_ONCE):
            once(producer, number)
        ready.wait()
        try:
            for _ in range(rounds):
                once(producer, number)
        except Exception as error:  # told by whoever waits
            failed.append(error)

    def once(producer: Producer, number: int) -> None:
        if given.what == "transact":
            producer.begin_transaction()
        for _ in range(AT_ONCE):
            producer.produce(given.topic, b"x" * VALUE_BYTES, partition=number)
        if given.what == "transact":
            producer.commit_transaction(60)
        elif producer.flush(60):
            failed.append("not flushed within 60 s")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"not all records were delivered: {failed[:3]}")
    records = rounds * PRODUCERS * AT_ONCE
    return records * VALUE_BYTES, records, {"seconds": time.monotonic() - begun}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("what", choices=["produce", "consume", "sync", "flush", "transact"])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--topic", default="figures")
    arguments.add_argument("--records", type=int, required=True)
    arguments.add_argument("--repeat", type=int, default=1)
    given = arguments.parse_args()
    begun = time.monotonic()
    bytes_, records, *more = {"produce": produce, "consume": consume, "sync": sync}.get(given.what, by_hundreds)(given)
    figures = {"bytes": bytes_, "records": records, "seconds": time.monotonic() - begun}
    print(json.dumps(figures | (more[0] if more else {})))


if __name__ == "__main__":
    main()
