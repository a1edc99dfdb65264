"""Every process that deploy/ starts, in one shape, whoever starts it: deploy/local/cluster, compose or Kubernetes."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from kustomize import render, workloads
from strict_yaml import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEPLOY = ROOT / "deploy"
ROLES = ("controller", "wal", "frontend", "compactor")
IMAGE = "tailwater"


@dataclass
class Process:
    where: str
    arguments: list[str]
    environment: dict[str, str]
    image: str = ""
    # What stands where --config points.
    config: str = ""
    # Paths that ask whether it takes traffic, and whether it lives; with the port.
    ready: set[tuple[str, int]] = field(default_factory=set)
    alive: set[tuple[str, int]] = field(default_factory=set)
    # Name and number of ports that are declared; none where there is nothing to declare them.
    ports: dict[str, int] = field(default_factory=dict)
    stop_seconds: int = 0

    @property
    def role(self) -> str:
        return self.arguments[0]

    @property
    def config_path(self) -> str:
        return self.arguments[self.arguments.index("--config") + 1]


def local() -> list[Process]:
    """What deploy/local/cluster really does: it runs, with a recorder in place of the server."""
    with tempfile.TemporaryDirectory() as folder:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TAILWATER", "CLUSTER"))}
        environment = {**inherited, "CLUSTER_DIR": folder, "TAILWATER": str(HERE / "recorder")}
        script = DEPLOY / "local" / "cluster"
        try:
            started = subprocess.run([script, "start"], env=environment, capture_output=True, text=True, timeout=300)
            if started.returncode != 0:
                raise RuntimeError(f"deploy/local/cluster start: {started.stdout}{started.stderr}")
        finally:
            subprocess.run([script, "stop"], env=environment, capture_output=True, timeout=300)
        found = []
        for call in sorted(Path(folder, "recorded").glob("*.call")):
            recorded = json.loads(call.read_text())
            probes = call.with_suffix(".probes").read_text().split()
            environment = recorded["environment"]
            # Only settings: the script's own variable of the binary's path has no section.
            settings = {name: value for name, value in environment.items() if "__" in name}
            process = Process("deploy/local/cluster", recorded["arguments"], settings)
            process.config = Path(process.config_path).read_text()
            process.ready = {(path, port(settings["TAILWATER_HTTP__LISTEN"])) for path in probes}
            found.append(process)
        return found


def port(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def compose_file() -> Path:
    return DEPLOY / "compose" / "compose.yaml"


def compose() -> list[Process]:
    found = []
    for name, service in load(compose_file())["services"].items():
        image = service["image"]
        if image.split(":")[0] != IMAGE:
            continue
        environment = {key: str(value) for key, value in service["environment"].items()}
        process = Process(f"compose service {name}", service["command"], environment, image)
        process.stop_seconds = int(service["stop_grace_period"].removesuffix("s"))
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            if process.config_path.startswith(f"{target}/"):
                file = compose_file().parent / source / process.config_path.removeprefix(f"{target}/")
                process.config = file.read_text()
        # As the script asks: a line of HTTP through bash.
        asked = " ".join(service["healthcheck"]["test"])
        path = asked.split("GET ", 1)[1].split(" ", 1)[0]
        process.ready = {(path, int(asked.split("/dev/tcp/127.0.0.1/", 1)[1].split(" ", 1)[0]))}
        found.append(process)
    return found


def kubernetes_folders() -> list[Path]:
    return [DEPLOY / "kubernetes" / name for name in ("base", "example", "external")]


def kubernetes(folder: Path) -> list[Process]:
    objects = render(folder)
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    found = []
    for workload in workloads(objects):
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        where = f"{folder.name}: {workload['kind']} {workload['metadata']['name']}"
        facts = {
            "metadata.name": f"{workload['metadata']['name']}-0",
            "metadata.namespace": workload["metadata"]["namespace"],
        }
        environment = {}
        for source in container.get("envFrom", []):
            kind, reference = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
            # The base leaves the Secret to the installation.
            held = by_name.get((kind, source[reference]["name"]), {})
            environment.update(held.get("data", held.get("stringData", {})))
        for variable in container["env"]:
            value = variable.get("value")
            if value is None:
                value = facts[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            # Kubernetes puts in variables that stand further up.
            for name, known in environment.items():
                value = value.replace(f"$({name})", known)
            environment[variable["name"]] = value
        process = Process(where, container["args"], environment, container["image"])
        process.ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        process.stop_seconds = pod["terminationGracePeriodSeconds"]
        asked = {}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = container[probe]["httpGet"]
            asked[probe] = (get["path"], process.ports[get["port"]])
        process.ready = {asked["readinessProbe"]}
        process.alive = {asked["startupProbe"], asked["livenessProbe"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for mount in container["volumeMounts"]:
            if process.config_path.startswith(f"{mount['mountPath']}/"):
                name = volumes[mount["name"]]["configMap"]["name"]
                data = by_name["ConfigMap", name]["data"]
                process.config = data[process.config_path.removeprefix(f"{mount['mountPath']}/")]
        found.append(process)
    return found
