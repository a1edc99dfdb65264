"""What Apache Kafka's own command-line tools are asked to do, in order, and what of their answers is compared.

Owns: the cases and what is normalised of each. Does not own: running and judging them, which is `tools.py`'s.
"""

import json
import re
from typing import Callable, NamedTuple

TOOLS = "org.apache.kafka.tools."
# None of Kafka's: they make what the tools are to find.
UNFINISHED, LIVING = "Unfinished", "Living"
BROKER = "1"


class Case(NamedTuple):
    name: str
    tool: str
    arguments: str
    # Of stdout: what is to be compared.
    facts: Callable


def everything(out: str) -> str:
    return out


def in_any_order(out: str) -> str:
    return "\n".join(sorted(out.split("\n")))


def ours(out: str) -> str:
    """Lines about what these cases made, in any order; the server may have other things."""
    return "\n".join(sorted(re.sub(" +", " ", line) for line in out.split("\n") if "tools-" in line or line.isupper()))


def numbers_aside(out: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "N", out)


def of_transactions(out: str) -> str:
    """Header and lines; ids, epochs and times are the server's own, and so is who coordinates."""
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in out.strip().split("\n")]
    return "\n".join(lines[:1] + sorted(re.sub(r"(?<![\w-])\d+", "N", line) for line in lines[1:]))


def our_transactions(out: str) -> str:
    return of_transactions("\n".join(line for number, line in enumerate(out.strip().split("\n")) if number == 0 or "tools-" in line))


def records_sent(out: str) -> str:
    """The number of records, and that there are figures."""
    return re.sub(r"(?<!\d)(?!1000 records)\d+(\.\d+)?", "N", out)


def records_read(out: str) -> str:
    header, values = [line.split(", ") for line in out.strip().split("\n")[-2:]]
    return f"{', '.join(header)}\n{values[header.index('data.consumed.in.nMsg')]} read"


def log_directories(out: str) -> str:
    """Which partitions are there and how they are; sizes and places are the server's own."""
    found = json.loads(out[out.index("{") :])
    lines = [f"version {found['version']}"]
    for broker in found["brokers"]:
        for directory in broker["logDirs"]:
            lines.append(f"broker {broker['broker']}, error {directory['error']}")
            for partition in sorted(directory["partitions"], key=lambda partition: partition["partition"]):
                size = "some" if partition["size"] > 0 else "no"
                lines.append(f"{partition['partition']}: {size} bytes, lag {partition['offsetLag']}, future {partition['isFuture']}")
    return "\n".join(lines)


def features(out: str) -> str:
    """Those that change what a client does with topics, groups and transactions."""
    wanted = ("group.version", "transaction.version")
    lines = (re.sub(r"Epoch: \d+", "Epoch: N", line) for line in out.split("\n"))
    return "\n".join(sorted(line for line in lines if any(f" {name} " in line for name in wanted)))


def quorum(out: str) -> str:
    """Which facts there are; their values are the server's own."""
    return "\n".join(line.split(":")[0] for line in out.strip().split("\n"))


def replication(out: str) -> str:
    return out.split("\n", maxsplit=1)[0] + "\n" + ", ".join(line.split()[-1] for line in out.strip().split("\n")[1:])


def group_members(out: str) -> str:
    """Member ids, of both protocols, are random, and columns as wide as they are."""
    out = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=[ ,])[\w-]{22}(?= )", "UUID", out)
    return re.sub(" +", " ", out)


def internal(out: str) -> str:
    """What these cases put into an internal topic, record by record, without ids and times, which are the server's own."""
    lines, decoder = [], json.JSONDecoder()
    out = out.strip()
    while out:
        record, end = decoder.raw_decode(out)
        out = out[end:].lstrip()
        # Apache Kafka also says of a group that it has no members before it gets its first one.
        unborn = record["value"] and record["value"]["data"].get("generation") == 0
        if any(str(name).startswith("tools-") for name in record["key"]["data"].values()) and not unborn:
            line = re.sub(r"-[0-9a-f]{8}-[0-9a-f-]{27}", "-UUID", json.dumps(record))
            line = re.sub(r'("\w*(?:[tT]imestamp\w*|[pP]roducerId)"): \d+', r"\1: N", line)
            lines.append(re.sub(r'("topicId"): "[\w-]{22}"', r"\1: UUID", line))
    return "\n".join(lines)


def group_epochs(out: str) -> str:
    """Apache Kafka 4.3 begins a group whose coordinator assigns with epoch 2."""
    return numbers_aside(group_members(out))


def sections() -> list:
    cases = []

    def case(name: str, tool: str, arguments: str, facts: Callable = everything) -> None:
        tool = tool if tool.startswith("kafka.") or tool in (UNFINISHED, LIVING) else TOOLS + tool
        cases.append(Case(name, tool, arguments, facts))

    topics = lambda name, arguments, facts=everything: case(f"topics: {name}", "TopicCommand", arguments, facts)  # noqa: E731
    topics("create", "--create --topic tools-a --partitions 3 --replication-factor 1 --config cleanup.policy=compact --config retention.ms=-1")
    topics("create it again", "--create --topic tools-a --partitions 3")
    topics("create it again unless it exists", "--create --topic tools-a --if-not-exists")
    topics("create with the broker's defaults", "--create --topic tools-defaults")
    topics("create with a bad name", "--create --topic tools/a")
    topics("create with an unknown setting", "--create --topic tools-x --config no.such.setting=1")
    topics("create with a bad value", "--create --topic tools-x --config retention.ms=soon")
    topics("create without partitions", "--create --topic tools-x --partitions 0")
    topics("list", "--list", ours)
    topics("describe", "--describe --topic tools-a")
    topics("describe the one with defaults", "--describe --topic tools-defaults")
    topics("describe those with settings of their own", "--describe --topics-with-overrides --topic tools-.*", in_any_order)
    topics("describe one that isn't there", "--describe --topic tools-none")
    topics("more partitions", "--alter --topic tools-a --partitions 5")
    topics("fewer partitions", "--alter --topic tools-a --partitions 2")
    topics("describe with more partitions", "--describe --topic tools-a")
    topics("delete", "--delete --topic tools-a")
    topics("delete it again", "--delete --topic tools-a")
    topics("create with too many replicas", "--create --topic tools-x --replication-factor 3")

    configs = lambda name, arguments, facts=in_any_order: case(f"configs: {name}", "kafka.admin.ConfigCommand", arguments, facts)  # noqa: E731
    case("configs: a topic", "TopicCommand", "--create --topic tools-c --config retention.ms=3600000")
    of_topic = "--entity-type topics --entity-name tools-c"
    configs("describe a topic's own", f"--describe {of_topic}")
    configs("describe all of a topic's", f"--describe --all {of_topic}")
    configs("alter a topic's", f"--alter {of_topic} --add-config max.message.bytes=2000000,cleanup.policy=[compact,delete]")
    configs("describe what was altered", f"--describe {of_topic}")
    configs("alter to a bad value", f"--alter {of_topic} --add-config max.message.bytes=-5")
    configs("alter an unknown setting", f"--alter {of_topic} --add-config no.such.setting=1")
    configs("delete a topic's", f"--alter {of_topic} --delete-config retention.ms,cleanup.policy")
    configs("describe what is left", f"--describe {of_topic}")
    configs("describe a topic that isn't there", "--describe --entity-type topics --entity-name tools-none")
    of_broker, of_brokers = f"--entity-type brokers --entity-name {BROKER}", "--entity-type brokers --entity-default"
    configs("describe a broker's own", f"--describe {of_broker}")
    configs("alter a broker's", f"--alter {of_broker} --add-config message.max.bytes=2000000")
    configs("describe the broker's", f"--describe {of_broker}")
    configs("delete the broker's", f"--alter {of_broker} --delete-config message.max.bytes")
    configs("alter all brokers'", f"--alter {of_brokers} --add-config log.retention.ms=3600000")
    configs("describe all brokers'", f"--describe {of_brokers}")
    configs("a topic follows its brokers", f"--describe --all {of_topic}", lambda out: in_any_order("\n".join(re.findall(" retention.ms.*", out))))
    configs("delete all brokers'", f"--alter {of_brokers} --delete-config log.retention.ms")

    case("data: a topic", "TopicCommand", "--create --topic tools-d --partitions 1")
    case("data: produce", "ProducerPerformance", "--topic tools-d --num-records 1000 --record-size 100 --throughput -1", records_sent)
    offsets = lambda name, arguments, facts=in_any_order: case(f"offsets: {name}", "GetOffsetShell", arguments, facts)  # noqa: E731
    offsets("the latest", "--topic tools-d")
    offsets("the earliest", "--topic tools-d --time earliest")
    offsets("of the highest timestamp", "--topic-partitions tools-d:0 --time max-timestamp", numbers_aside)
    offsets("of a time to come", "--topic tools-d --time 4000000000000")
    offsets("of several topics", "--topic tools-[cd]")
    offsets("of a topic that isn't there", "--topic tools-none")
    case("data: consume in a group", "ConsumerPerformance", "--topic tools-d --num-records 1000 --group tools-g", records_read)

    groups = lambda name, arguments, facts=everything: case(f"groups: {name}", "consumer.group.ConsumerGroupCommand", arguments, facts)  # noqa: E731
    groups("list", "--list", ours)
    groups("list with states", "--list --state", ours)
    groups("describe", "--describe --group tools-g", group_members)
    groups("describe members", "--describe --group tools-g --members")
    groups("describe state", "--describe --group tools-g --state")
    groups("describe one that isn't there", "--describe --group tools-none")
    groups("reset, but only show", "--reset-offsets --group tools-g --topic tools-d --to-offset 100 --dry-run")
    groups("reset to an offset", "--reset-offsets --group tools-g --topic tools-d --to-offset 100 --execute")
    groups("reset by a shift", "--reset-offsets --group tools-g --topic tools-d --shift-by 50 --execute")
    groups("describe after a reset", "--describe --group tools-g", group_members)
    formatted = lambda name, topic, formatter: case(  # noqa: E731
        f"internal topics: {name}", "consumer.ConsoleConsumer",
        f"--topic {topic} --from-beginning --timeout-ms 5000 --formatter org.apache.kafka.tools.consumer.{formatter}", internal,
    )  # fmt: skip
    formatted("offsets", "__consumer_offsets", "OffsetsMessageFormatter")
    formatted("groups", "__consumer_offsets", "GroupMetadataMessageFormatter")
    groups("reset to the latest", "--reset-offsets --group tools-g --all-topics --to-latest --execute")
    groups("reset to a time", "--reset-offsets --group tools-g --topic tools-d --to-datetime 2020-01-01T00:00:00.000Z --execute")
    groups("reset one that isn't there", "--reset-offsets --group tools-new --topic tools-d --to-earliest --execute")
    groups("delete offsets", "--delete-offsets --group tools-g --topic tools-d")
    groups("delete", "--delete --group tools-new")
    groups("delete one that isn't there", "--delete --group tools-none")
    groups("what is left", "--list", ours)
    case("groups: list of every kind", "GroupsCommand", "--list", ours)
    case("groups: list of one kind", "GroupsCommand", "--list --group-type consumer", ours)

    for protocol in ("classic", "consumer"):
        live = lambda name, arguments, facts=group_members: case(  # noqa: E731
            f"a living group, {protocol}: {name}", "consumer.group.ConsumerGroupCommand", arguments, facts,  # noqa: B023
        )  # fmt: skip
        group = f"tools-{protocol}"
        case(f"a living group, {protocol}: a member", LIVING, f"--group {group} --protocol {protocol} --topic tools-d")
        live("describe", f"--describe --group {group}")
        live("describe in full", f"--describe --group {group} --verbose")
        live("describe members", f"--describe --group {group} --members --verbose", group_epochs)
        live("describe state", f"--describe --group {group} --state --verbose", group_epochs)
        live("list those of its state", "--list --state stable", ours)
        live("list those of its type", f"--list --type {protocol}", ours)
        live("reset", f"--reset-offsets --group {group} --topic tools-d --to-earliest --execute")
        live("delete offsets", f"--delete-offsets --group {group} --topic tools-d")
        live("delete", f"--delete --group {group}")
        case(f"a living group, {protocol}: it ends", LIVING, f"--end {group}")
        live("describe state when it is empty", f"--describe --group {group} --state --verbose", group_epochs)
        live("delete when it is empty", f"--delete --group {group}")

    delete = lambda name, offset: case(  # noqa: E731
        f"records: {name}", "DeleteRecordsCommand",
        '--offset-json-file FILE={"partitions":[{"topic":"tools-d","partition":0,"offset":%d}],"version":1}' % offset,
    )  # fmt: skip
    delete("delete", 300)
    offsets("the earliest after records were deleted", "--topic tools-d --time earliest")
    delete("delete behind the end", 5000)
    delete("delete everything", -1)
    offsets("the earliest of nothing", "--topic tools-d --time earliest")

    for topic in ("tools-t", "tools-u"):
        case(f"transactions: a topic {topic}", "TopicCommand", f"--create --topic {topic} --partitions 1")
    sent = "--num-records 1000 --record-size 100 --throughput -1 --transactional-id tools-tx --transaction-duration-ms 60000"
    case("transactions: some that are committed", "ProducerPerformance", f"--topic tools-u {sent}", records_sent)
    case("transactions: one that stays open", UNFINISHED, "--topic tools-t --transactional-id tools-open")
    transactions = lambda name, arguments, facts=of_transactions: case(f"transactions: {name}", "TransactionsCommand", arguments, facts)  # noqa: E731
    transactions("list", "list", our_transactions)
    transactions("list those of a pattern", "list --transactional-id-pattern tools-o.*")
    transactions("list those that take long", "list --duration-filter 3600000")
    transactions("describe one that is committed", "describe --transactional-id tools-tx")
    transactions("describe one that is open", "describe --transactional-id tools-open")
    transactions("describe one that isn't there", "describe --transactional-id tools-none")
    of_open = "--topic tools-t --partition 0"
    transactions("producers", f"describe-producers {of_open}")
    transactions("find hanging ones", "find-hanging --topic tools-t")
    transactions("find hanging ones of a broker", f"find-hanging --broker-id {BROKER} --max-transaction-timeout 1")
    transactions("abort where none begins", f"abort {of_open} --start-offset 5")
    transactions("abort", f"abort {of_open} --start-offset 0")
    transactions("abort again", f"abort {of_open} --start-offset 0")
    transactions("producers after it", f"describe-producers {of_open}")
    transactions("end by force", "forceTerminateTransaction --transactionalId tools-open")
    transactions("describe what was ended", "describe --transactional-id tools-open")

    formatted("transactions", "__transaction_state", "TransactionLogMessageFormatter")

    case("log directories: describe", "LogDirsCommand", "--describe --topic-list tools-d", log_directories)
    case("log directories: of another broker", "LogDirsCommand", "--describe --broker-list 77")
    case("quorum: status", "MetadataQuorumCommand", "describe --status", quorum)
    case("quorum: replication", "MetadataQuorumCommand", "describe --replication", replication)
    case("features: describe", "FeatureCommand", "describe", features)
    case("features: an unknown one", "FeatureCommand", "upgrade --feature no.such.version=1")
    election = lambda name, arguments: case(f"election: {name}", "LeaderElectionCommand", arguments)  # noqa: E731
    election("preferred", "--election-type preferred --topic tools-d --partition 0")
    election("of a partition that isn't there", "--election-type preferred --topic tools-d --partition 9")
    metrics = lambda name, arguments, facts=everything: case(f"client metrics: {name}", "ClientMetricsCommand", arguments, facts)  # noqa: E731
    metrics("make", "--alter --name tools-m --interval 60000 --metrics org.apache.kafka.producer --match client_id=tools")
    metrics("list", "--list", ours)
    metrics("describe", "--describe --name tools-m", in_any_order)
    metrics("delete", "--delete --name tools-m")
    metrics("describe one that isn't there", "--describe --name tools-m")

    # For another run on the same server.
    groups("delete what is left", "--delete --group tools-g")
    topics("delete what is left", "--delete --topic tools-.*")
    return cases


CASES = sections()
