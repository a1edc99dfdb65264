"""Apache Kafka's own command-line tools against whoever serves at the address: do they say what they say of Apache Kafka?

    tools.py --bootstrap HOST:PORT [--json FILE] [--gaps FILE] [--only TEXT] [--record]

What they say of Apache Kafka 4.3.0 stands in `tests/reference/tools.txt`; `--record` writes it anew, which is done against
Apache Kafka only. Exits 1 with every difference that isn't a known gap, and for every known gap that is none any more.
"""

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tool_cases import BROKER, CASES, TOOLS, Case

HERE = Path(__file__).parent
RECORDED = HERE.parent / "reference" / "tools.txt"
PREPARED = Path(os.environ.get("TAILWATER_TEST_CLIENTS") or HERE.parent.parent / ".clients")
RUNNER = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
          "-cp", f"{PREPARED}/java:{PREPARED}/jars/*", "Tools"]  # fmt: skip
SHOWN_LINES = 30


class Runner:
    """Java with all tools, started once."""

    def __init__(self, bootstrap: str, folder: Path):
        self.bootstrap, self.folder = bootstrap, folder
        self.process = subprocess.Popen(RUNNER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self, tool: str, arguments: list) -> dict:
        self.process.stdin.write("\t".join([tool, "--bootstrap-server", self.bootstrap, *arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the tools ended with {self.process.wait()} in {tool} {arguments}")
        return json.loads(line)

    def run(self, case: Case) -> str:
        """What is compared of its answer."""
        arguments = []
        for argument in case.arguments.split(" "):
            if argument.startswith("FILE="):
                path = self.folder / "input"
                path.write_text(argument[len("FILE=") :])
                argument = str(path)
            arguments.append(argument)
        answer = self.answer(case.tool, arguments)
        try:
            facts = case.facts(answer["out"])
        except (ValueError, IndexError, KeyError, StopIteration) as error:
            facts = f"(not understood: {error!r})\n{answer['out']}"
        text = f"exit {answer['exit']}\n{facts.strip()}"
        if answer["err"].strip():
            # The first lines of stacks say which failure it is, the others where in the tool.
            errors = (line for line in answer["err"].strip().split("\n") if not re.match(r"\s+(at |\.\.\. )|The consumer rebalance protocol", line))
            text += "\nstderr:\n" + "\n".join(errors)
        return normalised(text, self.bootstrap)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def normalised(text: str, bootstrap: str) -> str:
    text = text.replace(bootstrap, "HOST:PORT").replace(bootstrap.split(":")[0], "HOST")
    text = re.sub(r"Processed a total of \d+ messages", "Processed a total of N messages", text)
    text = re.sub(r"TopicId: [\w-]{22}", "TopicId: UUID", text)
    text = re.sub(r"\(id: \d+ rack: \w+ [^)]*\)", f"(id: {BROKER})", text)
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))


def api_versions(out: str) -> dict:
    """Of every API that the broker serves its name and its range of versions, as the tool shows them."""
    served = re.findall(r"(\w+)\((\d+)\): (\d+)(?: to (\d+))? \[", out)
    return {key: {"name": name, "versions": [int(low), int(high or low)]} for name, key, low, high in served}


def read_sections(path: Path) -> dict:
    found = {}
    for section in path.read_text().split("\n### ")[1:]:
        name, _, text = section.partition("\n")
        found[name] = text.strip("\n")
    return found


def read_gaps(path: Path) -> dict:
    lines = (line for line in path.read_text().split("\n") if line and not line.startswith("#"))
    return dict(line.split(" | ", maxsplit=1) for line in lines)


def difference(expected: str, found: str) -> str:
    lines = list(difflib.unified_diff(expected.split("\n"), found.split("\n"), "Apache Kafka", "here", lineterm="", n=1))[2:]
    return "\n".join(lines[:SHOWN_LINES] + ([f"… {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else []))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    arguments.add_argument("--bootstrap", required=True)
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--gaps", type=Path, help="what is known to differ: lines of NAME | REASON")
    arguments.add_argument("--only", default="", help="show the cases with this text in their names; all are run")
    arguments.add_argument("--record", action="store_true")
    given = arguments.parse_args()

    for need in ("java", f"{PREPARED}/java/Tools.class"):
        if shutil.which(need) is None and not Path(need).exists():
            print(f"SKIPPED Kafka's tools: {need} isn't there (tests/clients/prepare)")
            if given.json:
                # What a former run found isn't what this one found.
                given.json.unlink(missing_ok=True)
            return 1 if os.environ.get("CI") == "true" else 0

    begun, found = time.monotonic(), {}
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(given.bootstrap, Path(folder))
        for case in CASES:
            found[case.name] = runner.run(case)
            if given.only and given.only in case.name:
                print(f"### {case.name}\n{found[case.name]}\n")
        apis = api_versions(runner.answer(TOOLS + "BrokerApiVersionsCommand", [])["out"])
        runner.close()
    if given.record:
        head = "What Apache Kafka 4.3.0's tools say of Apache Kafka 4.3.0: written by tools.py --record, checked by make test-reference.\n"
        RECORDED.write_text(head + "".join(f"\n### {name}\n{text}\n" for name, text in found.items()))
        return 0

    expected, gaps = read_sections(RECORDED), read_gaps(given.gaps) if given.gaps else {}
    if list(expected) != list(found):
        print("the recorded cases aren't those of tool_cases.py: record them anew", file=sys.stderr)
        return 1
    strange = set(gaps) - set(found)
    wrong = [f"{name} is a known gap, and no case" for name in strange]
    for name, text in found.items():
        if text != expected[name] and name not in gaps:
            wrong.append(f"### {name}\n{difference(expected[name], text)}")
        if text == expected[name] and name in gaps:
            wrong.append(f"### {name}\nis no gap any more: take it from {given.gaps.name} (make compatibility does)")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        short = {case.name: case.tool.rsplit(".", maxsplit=1)[-1] for case in CASES}
        results = {name: {"tool": short[name], "same": found[name] == expected[name]} for name in found}
        given.json.write_text(json.dumps({"tools": results, "apis": apis}, indent=1) + "\n")
    print("\n\n".join(wrong))
    same = sum(found[name] == expected[name] for name in found)
    print(f"{same} of {len(found)} cases as Apache Kafka, {len(gaps)} known gaps, {time.monotonic() - begun:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
