"""docs/compatibility.md: what works with which client, and which versions of which API, as found by the tests.

    compatibility.py check --server {tailwater,kafka} [--clients FILE] [--tools FILE]
    compatibility.py update --server {tailwater,kafka} [--clients FILE] [--tools FILE]

FILE is what `matrix.py` or `tools.py` wrote. What the runs found is kept in `tests/reference/facts.json`, and the document is
made from it and from `tests/reference/gaps.txt` alone; `check` fails where a run has found something else, or the document isn't
what follows. `update` also takes gaps from the list that a run of the tools no longer finds; new ones need a reason, and are added
by hand. Clients that a run has left out are not checked.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import transactions
from oracle import AS_ASSIGNED, COMMITS, CONTENTS, CREATES, GROUP, KILLED, RESTART
from records import CODECS
from tool_cases import CASES, LIVING, UNFINISHED
from tools import read_gaps

REPOSITORY = Path(__file__).parent.parent.parent
FACTS = REPOSITORY / "tests/reference/facts.json"
GAPS = REPOSITORY / "tests/reference/gaps.txt"
DOCUMENT = REPOSITORY / "docs/compatibility.md"
SERVERS = {"kafka": "Apache Kafka 4.3.0", "tailwater": "Tailwater"}
FEATURES = [CREATES, "idempotent producer", *CODECS, *CONTENTS, AS_ASSIGNED, GROUP, KILLED, COMMITS, RESTART]
FEATURES += transactions.FEATURES
FEATURES += ["read by kcat", "read by java", "read by franz-go"]


# As their sources and runs against Apache Kafka say.
LACKS = {
    "aiokafka": "groups whose coordinator assigns. Its transactions' offsets name a group and no member, so that a member which was "
    "put out is not refused; only one transactional id of each worker keeps it from passing records on twice.",
    "confluent, rdkafka, java, franz-go": "nothing of this.",
    "kafka-python": "groups whose coordinator assigns. A producer that a partition has refused asks for its transactional id as if it "
    "were new, and so puts out the one that has replaced it.",
    "kafkajs": "zstd, reading without a group, groups whose coordinator assigns; and members in transactions' offsets, as aiokafka.",
    "kcat": "transactions, and records with headers or timestamps of their own. It isn't asked about a killed member (what it "
    "prints is late) and a restart.",
    "sarama": "groups whose coordinator assigns.",
}


def clients_found(path: Path) -> dict:
    clients = json.loads(path.read_text())["clients"]
    return {
        name: {
            # kcat's version is the machine's.
            "version": "" if name == "kcat" else client["version"],
            "features": {feature: verdict == "yes" for feature, verdict in client["features"].items()},
        }
        for name, client in clients.items()
    }


def found(given) -> dict:
    parts = {}
    if given.clients:
        parts["clients"] = clients_found(given.clients)
    if given.tools and given.tools.exists():
        parts["apis"] = json.loads(given.tools.read_text())["apis"]
    return parts


def table(head: list, rows: list) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def clients_table(facts: dict) -> str:
    kafka, tailwater = (facts["clients"].get(server, {}) for server in ("kafka", "tailwater"))

    def cell(client: str, feature: str) -> str:
        there, here = (found.get(client, {}).get("features", {}).get(feature) for found in (kafka, tailwater))
        return "–" if there is None and here is None else "yes" if here and there else "yes (Kafka: no)" if here else "**no**"

    names = sorted(set(kafka) | set(tailwater))
    versions = [(tailwater.get(name) or kafka[name])["version"] for name in names]
    head = ["", *(f"{name} {version}".strip() for name, version in zip(names, versions))]
    label = lambda feature: f"codec {feature}" if feature in CODECS else feature  # noqa: E731
    return table(head, [[label(feature), *(cell(name, feature) for name in names)] for feature in FEATURES])


def apis_table(facts: dict) -> str:
    kafka, tailwater = (facts["apis"].get(server, {}) for server in ("kafka", "tailwater"))
    keys = sorted(set(kafka) | set(tailwater), key=int)

    def versions(found: dict, key: str) -> str:
        return "–" if key not in found else "–".join(map(str, sorted(set(found[key]["versions"]))))

    rows = [[(kafka.get(key) or tailwater[key])["name"], key, versions(kafka, key), versions(tailwater, key)] for key in keys]
    return table(["API", "key", SERVERS["kafka"], SERVERS["tailwater"]], rows)


def tools_table(gaps: dict) -> str:
    cases = [case for case in CASES if case.tool not in (UNFINISHED, LIVING)]
    names = [case.tool.rsplit(".", maxsplit=1)[-1] for case in cases]
    total = Counter(names)
    same = Counter(name for name, case in zip(names, cases) if case.name not in gaps)
    return table(["tool", "cases", "as with Apache Kafka"], [[name, str(total[name]), str(same[name])] for name in dict.fromkeys(names)])


def document(facts: dict, gaps: dict) -> str:
    differences = "\n".join(f"- {name}: {reason}" for name, reason in gaps.items()) or "None."
    lacks = "\n".join(f"- {client}: {what}" for client, what in LACKS.items())
    return f"""# Compatibility

Made by `tests/clients/compatibility.py` from what the tests found (`make test`, `make test-reference`), and checked by them: don't edit.

## Clients

Each client sends records to twelve partitions, half of them where it likes, and reads them back: exact bytes, keys, headers, timestamps;
values of which 90% are up to 1 KiB, 9% up to 32 KiB, 1% up to 1 MiB. A member of the group, a process of its own, is killed (SIGKILL);
then the servers are, and come back. In transactions each client commits, aborts, stands still (SIGSTOP) while another process takes
its place and is refused by the partition and by the coordinator, runs out of time, and passes records on from topic to topic with
its group's offsets, while transactions are aborted and another takes over. "**no**" is what works with Apache Kafka 4.3.0 and not
with Tailwater; "–" is what the client can't do, or isn't asked. A name with `-kip848` is the same client in groups whose
coordinator assigns (`group.protocol=consumer`): only what has to do with groups is another thing then.

{clients_table(facts)}

What each client lacks, with Apache Kafka too:

{lacks}

## Apache Kafka's command-line tools

Run against Tailwater, what they say is compared with what they say of Apache Kafka 4.3.0.

{tools_table(gaps)}

Known differences:

{differences}

## APIs

The versions that each answers to ApiVersions, as `BrokerApiVersionsCommand` shows them.

{apis_table(facts)}
"""


def close_gaps(tools: dict) -> None:
    lines = GAPS.read_text().split("\n")
    GAPS.write_text("\n".join(line for line in lines if not tools.get(line.split(" | ")[0], {"same": False})["same"]))


def compare(kept: dict, now: dict, path: str, wrong: list) -> None:
    """What was found now and is not so in what is kept; apis must be the same set, clients may be left out."""
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(kept.get(key), dict):
            compare(kept[key], value, f"{path}{key}: ", wrong)
        elif kept.get(key) != value:
            wrong.append(f"{path}{key}: the run found {json.dumps(value)}, kept is {json.dumps(kept.get(key))}")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("action", choices=("check", "update"))
    arguments.add_argument("--server", choices=SERVERS, required=True)
    arguments.add_argument("--clients", type=Path)
    arguments.add_argument("--tools", type=Path)
    given = arguments.parse_args()

    facts = json.loads(FACTS.read_text()) if FACTS.exists() else {"apis": {}, "clients": {}}
    if given.action == "update":
        for part, now in found(given).items():
            facts[part].setdefault(given.server, {}).update(now)
            if part == "apis":
                facts[part][given.server] = now
        if given.tools and given.server == "tailwater":
            close_gaps(json.loads(given.tools.read_text())["tools"])
        FACTS.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        DOCUMENT.write_text(document(facts, read_gaps(GAPS)))
        return 0

    wrong = []
    for part, now in found(given).items():
        kept = facts[part].get(given.server, {})
        compare(kept, now, f"{SERVERS[given.server]}: {part}: ", wrong)
        if part == "apis":
            wrong += [f"{kept[key]['name']} is kept, and the run did not find it" for key in kept if key not in now]
    if DOCUMENT.read_text() != document(facts, read_gaps(GAPS)):
        wrong.append(f"{DOCUMENT.name} is not what follows from {FACTS.name} and {GAPS.name}")
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print("If that is how it should be: make compatibility, and commit.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
