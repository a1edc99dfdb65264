#!/usr/bin/env python3
"""Holds deploy/ to itself, to Kubernetes' schemas, and to the server; tests/tests/deploy.rs runs it.

    check.py kubernetes|compose|dockerfile
    check.py one-source BINARY
    check.py prometheus < what a running server answers to GET /metrics

Exit codes: 0 all is well, 1 with every fault on stderr, 3 where a module isn't installed.
"""

import json
import re
import subprocess
import sys
import tomllib

try:
    import kubernetes_validate
    import yaml  # noqa: F401
except ImportError as missing:
    print(f"{missing}: pip install --requirement tests/deploy/requirements.txt", file=sys.stderr)
    sys.exit(3)

from kustomize import render, workloads
from processes import DEPLOY, IMAGE, ROLES, ROOT, compose, compose_file, kubernetes, kubernetes_folders, local, port
from strict_yaml import load, load_all

faults = []


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        faults.append(otherwise)


def kubernetes_schemas() -> None:
    """Every object is one of the newest Kubernetes that there are schemas of, without a field that isn't known."""
    version = kubernetes_validate.latest_version()
    for folder in kubernetes_folders():
        objects = render(folder)
        expect(len(objects) > 15, f"{folder.name}: only {len(objects)} objects")
        for each in objects:
            where = f"{folder.name}: {each['kind']} {each['metadata']['name']}"
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(str(part) for part in error.path)
                faults.append(f"{where}: {path}: {error.message}")
        if not faults:
            consistent(folder.name, objects)
    print(f"valid for Kubernetes {version}")


def selects(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def labels_of_pods(workload: dict) -> list[dict]:
    """What Services select by: a StatefulSet's pods have their own names as a label too."""
    name, labels = workload["metadata"]["name"], workload["spec"]["template"]["metadata"]["labels"]
    if workload["kind"] != "StatefulSet":
        return [labels]
    return [
        {**labels, "statefulset.kubernetes.io/pod-name": f"{name}-{number}"}
        for number in range(workload["spec"]["replicas"])
    ]


def consistent(where: str, objects: list[dict]) -> None:
    """What schemas don't see: names that refer to each other, and what every pod must have."""
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    expect(len(names) == len(objects), f"{where}: two objects have one name")
    pods = {each["metadata"]["name"]: each["spec"]["template"] for each in workloads(objects)}
    by_role = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in workloads(objects)}
    expect(by_role == set(ROLES), f"{where}: workloads for {sorted(by_role)}")
    for each in objects:
        kind, name, spec = each["kind"], each["metadata"]["name"], each.get("spec", {})
        if kind == "Service":
            ports = [
                {port["name"] for port in pods[workload["metadata"]["name"]]["spec"]["containers"][0]["ports"]}
                for workload in workloads(objects)
                if any(selects(spec["selector"], labels) for labels in labels_of_pods(workload))
            ]
            expect(len(ports) == 1, f"{where}: Service {name} selects {len(ports)} workloads")
            wanted = {port["targetPort"] for port in spec["ports"]}
            expect(all(wanted <= named for named in ports), f"{where}: Service {name}: no port {wanted}")
        elif kind == "NetworkPolicy":
            expect(
                all(selects(spec["podSelector"]["matchLabels"], pod["metadata"]["labels"]) for pod in pods.values()),
                f"{where}: NetworkPolicy {name} leaves pods out",
            )
            named = {rule["port"] for ingress in spec["ingress"] for rule in ingress["ports"]}
            there = {rule["name"] for pod in pods.values() for rule in pod["spec"]["containers"][0]["ports"]}
            expect(named == there, f"{where}: NetworkPolicy {name} is about {named}, pods have {there}")
        elif kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            expect((target["kind"], target["name"]) in names, f"{where}: {name} scales {target}, which isn't there")
            scaled = next(o for o in workloads(objects) if o["metadata"]["name"] == target["name"])
            expect("replicas" not in scaled["spec"], f"{where}: applying {name}'s target would set its size back")
    for each in workloads(objects):
        name, pod = each["metadata"]["name"], each["spec"]["template"]["spec"]
        role = each["metadata"]["labels"]["app.kubernetes.io/component"]
        labels = each["spec"]["template"]["metadata"]["labels"]
        selector = each["spec"]["selector"]["matchLabels"]
        expect(selects(selector, labels), f"{where}: {name} doesn't select its own pods")
        budgets = [
            o
            for o in objects
            if o["kind"] == "PodDisruptionBudget" and selects(o["spec"]["selector"]["matchLabels"], labels)
        ]
        expect(len(budgets) == 1, f"{where}: {name} has {len(budgets)} disruption budgets")
        if each["kind"] == "StatefulSet":
            expect(("Service", each["spec"]["serviceName"]) in names, f"{where}: {name} has no Service for its names")
        keeps = bool(each["spec"].get("volumeClaimTemplates"))
        expect(keeps == (role in ("controller", "wal")), f"{where}: {name}: volumes: {keeps}")
        context, container = pod["securityContext"], pod["containers"][0]
        expect(context["runAsNonRoot"] and context["runAsUser"] > 0, f"{where}: {name} may run as root")
        expect(context["seccompProfile"]["type"] == "RuntimeDefault", f"{where}: {name} has no seccomp profile")
        expect(("fsGroup" in context) == keeps, f"{where}: {name}: fsGroup is for volumes")
        own = container["securityContext"]
        expect(
            own["readOnlyRootFilesystem"]
            and not own["allowPrivilegeEscalation"]
            and own["capabilities"]["drop"] == ["ALL"],
            f"{where}: {name} may do more than it needs",
        )
        expect(pod["automountServiceAccountToken"] is False, f"{where}: {name} gets a token that nobody uses")
        expect(pod["enableServiceLinks"] is False, f"{where}: {name} gets variables of Services")
        expect(("ServiceAccount", pod["serviceAccountName"]) in names, f"{where}: {name}: no ServiceAccount")
        resources = container["resources"]
        expect(
            {"cpu", "memory"} <= set(resources["requests"]), f"{where}: {name} requests too little to be placed well"
        )
        expect(
            resources["limits"]["memory"] == resources["requests"]["memory"], f"{where}: {name}: memory isn't its own"
        )
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        expect(mounts == volumes, f"{where}: {name} mounts {mounts} of {volumes}")


def compose_parses() -> None:
    """What compose refers to is there: services, volumes, files."""
    file = load(compose_file())
    services, volumes = file["services"], set(file["volumes"])
    used = set()
    for name, service in services.items():
        for other in service.get("depends_on", []):
            expect(other in services, f"compose: {name} depends on {other}, which isn't there")
        expect("restart" in service, f"compose: {name} isn't started again when it ends")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                expect((compose_file().parent / source).is_dir(), f"compose: {name} mounts {source}, which isn't there")
            else:
                used.add(source)
        if service["image"].split(":")[0] == IMAGE:
            context = (compose_file().parent / service["build"]["context"]).resolve()
            expect(context == ROOT, f"compose: {name} is built in {context}")
            expect((context / service["build"]["dockerfile"]).is_file(), f"compose: {name}: no Dockerfile")
            expect(
                service["read_only"] and service["cap_drop"] == ["ALL"], f"compose: {name} may do more than it needs"
            )
    expect(used == volumes, f"compose: volumes {used ^ volumes} are used or declared, not both")
    published = [line.rsplit(":", 1)[0] for service in services.values() for line in service.get("ports", [])]
    expect(len(set(published)) == len(published), f"compose: a port is published twice: {published}")
    advertised = {
        service["environment"]["TAILWATER_FRONTEND__SERVER__ADVERTISE"]
        for service in services.values()
        if service.get("command", [""])[0] == "frontend"
    }
    expect(advertised <= set(published), f"compose: advertised {advertised}, published {published}")
    for name, service in services.items():
        for listener, (listen, advertise) in further_listeners(service.get("environment", {})).items():
            # Not published: for other containers, which find it by its service's name.
            expect(advertise == f"{name}:{port(listen)}", f"compose: {name}: {listener} is advertised as {advertise}")
    started = [service["command"][0] for service in services.values() if "command" in service]
    counts = {role: started.count(role) for role in ROLES}
    expect(counts == {"controller": 1, "wal": 3, "frontend": 2, "compactor": 1}, f"compose: {counts}")


FURTHER = re.compile(r"TAILWATER_FRONTEND__LISTENERS__([A-Z]+)__(LISTEN|ADVERTISE)")


def further_listeners(environment: dict) -> dict[str, tuple[str, str]]:
    """What each listener beside the first listens on and advertises; both must be said where pods or containers are."""
    found = {}
    for name, address in environment.items():
        if match := FURTHER.fullmatch(name):
            found.setdefault(match[1], {})[match[2]] = address
    for name, addresses in found.items():
        expect(set(addresses) == {"LISTEN", "ADVERTISE"}, f"listener {name} has only {addresses}")
    return {name: (each.get("LISTEN", ":0"), each.get("ADVERTISE", ":0")) for name, each in found.items()}


# Settings that a place may have beside deploy/local/cluster's: there, the address listened on is the one to call.
ADVERTISED = {
    "wal": {"TAILWATER_RPC__ADVERTISE"},
    "frontend": {"TAILWATER_RPC__ADVERTISE", "TAILWATER_FRONTEND__SERVER__ADVERTISE"},
}
# Settings that a place may leave out: a StatefulSet's pod has a number in its name, a compactor takes any.
FROM_THE_NAME = {"TAILWATER_NODE__ID"}
OBJECT_STORE = {"AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
DOWNWARD = {"POD_NAME", "POD_NAMESPACE"}
LISTENS = {
    "controller": {"rpc": "rpc.listen", "http": "http.listen"},
    "wal": {"rpc": "rpc.listen", "http": "http.listen"},
    "frontend": {"kafka": "frontend.server.listen", "rpc": "rpc.listen", "http": "http.listen"},
    "compactor": {"http": "http.listen"},
}


def dump(binary: str, arguments: list[str], environment: dict) -> dict:
    """The settings that a process would have, as the server itself understands them; a fault where it refuses them."""
    done = subprocess.run(
        [binary, *arguments, "--dump-config"], env=environment, capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return tomllib.loads(done.stdout)


def value(settings: dict, key: str):
    for part in key.split("."):
        settings = settings[part]
    return settings


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def one_source(binary: str) -> None:
    """Compose and Kubernetes start each role as deploy/local/cluster does, and the server knows all that they set."""
    source = {process.role: process for process in local()}
    expect(set(source) == set(ROLES), f"deploy/local/cluster starts {sorted(source)}")
    defaults = dump(binary, ["standalone"], {})
    compared = 0
    for process in [*compose(), *(each for folder in kubernetes_folders() for each in kubernetes(folder))]:
        compared += 1
        role, where, model = process.role, process.where, source[process.role]
        ours, theirs = command_of(process), command_of(model)
        expect(ours == theirs, f"{where}: started with {ours}, the local cluster with {theirs}")
        written = (DEPLOY / "roles" / f"{role}.toml").read_text()
        expect(process.config == written == model.config, f"{where}: its file isn't deploy/roles/{role}.toml")

        settings = {name for name in process.environment if name.startswith("TAILWATER_")}
        missing = set(model.environment) - FROM_THE_NAME - settings
        expect(not missing, f"{where}: the local cluster sets {sorted(missing)} too")
        further = {name for name in settings if role == "frontend" and FURTHER.fullmatch(name)}
        extra = settings - set(model.environment) - ADVERTISED.get(role, set()) - further
        expect(not extra, f"{where}: the local cluster doesn't set {sorted(extra)}")
        expect(ADVERTISED.get(role, set()) <= settings, f"{where}: a wildcard is no address to call")
        others = set(process.environment) - settings - DOWNWARD
        uses_objects = "TAILWATER_STORAGE__URL" in settings
        expect(others <= (OBJECT_STORE if uses_objects else set()), f"{where}: what is {sorted(others)}?")

        expect(
            process.ready == {(path, process_port(process)) for path, _ in model.ready},
            f"{where}: ready: {process.ready}",
        )
        expect(process.alive <= {("/healthz", process_port(process))}, f"{where}: alive: {process.alive}")

        here = [str(DEPLOY / "roles" / f"{role}.toml") if each == "FILE" else each for each in ours]
        try:
            known = dump(binary, here, process.environment)
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        # A port is called as its listener is.
        listeners = further_listeners(process.environment)
        listens = LISTENS[role] | {name.lower(): f"frontend.listeners.{name}.listen" for name in listeners}
        for name, key in listens.items():
            number = port(value(known, key))
            if name in LISTENS[role]:
                expect(number == port(value(defaults, key)), f"{where}: {key} is {number}, not the usual port")
            if process.ports:
                expect(process.ports.get(name) == number, f"{where}: port {name} isn't {key}'s {number}")
        if process.ports:
            expect(set(process.ports) == set(listens), f"{where}: ports {process.ports}")
        for name, (_, advertise) in listeners.items():
            told = value(known, f"frontend.listeners.{name}.advertise")
            expect(told == advertise, f"{where}: listener {name} advertises {told}, not {advertise}")
        for advertised in sorted(ADVERTISED.get(role, ())):
            key = advertised.removeprefix("TAILWATER_").lower().replace("__", ".")
            expect(value(known, key) == process.environment[advertised], f"{where}: {key} is {value(known, key)}")
        least = seconds(known["node"]["stop_timeout"]) * (2 if role == "frontend" else 1)
        expect(
            process.stop_seconds > least, f"{where}: killed after {process.stop_seconds} s, it may stop for {least} s"
        )
    expect(compared >= 7 + 2 * len(ROLES), f"only {compared} processes were compared")
    for folder in kubernetes_folders():
        reachable(folder.name, render(folder), kubernetes(folder))
    images = {each.image for folder in kubernetes_folders()[:1] for each in kubernetes(folder)}
    images |= {each.image for each in compose()}
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    expect(images == {f"{IMAGE}:{version}"}, f"images {images}, this is version {version}")


def command_of(process) -> list[str]:
    """Its command, wherever its file lies."""
    return ["FILE" if each == process.config_path else each for each in process.arguments]


def process_port(process) -> int:
    return port(process.environment["TAILWATER_HTTP__LISTEN"])


def reachable(where: str, objects: list[dict], processes: list) -> None:
    """The names that processes are called by are Services' that lead to them; what a WAL allocates fits its volume."""
    services = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Service"}
    sets = {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in workloads(objects)}
    for process in processes:
        controller = process.environment.get("TAILWATER_RPC__CONTROLLER")
        if controller is not None:
            host, number = controller.rsplit(":", 1)
            expect(host in services, f"{process.where}: no Service {host}")
            expect(
                host in services
                and services[host]["selector"]["app.kubernetes.io/component"] == "controller"
                and int(number) in [each["port"] for each in services[host]["ports"]],
                f"{process.where}: {controller} doesn't lead to the controller",
            )
        for name in ADVERTISED.get(process.role, ()):
            address, own = process.environment[name], sets[process.role]
            service, namespace = own["spec"]["serviceName"], own["metadata"]["namespace"]
            listen = port(process.environment[name.replace("ADVERTISE", "LISTEN")])
            expected = f"{own['metadata']['name']}-0.{service}.{namespace}.svc:{listen}"
            expect(address == expected, f"{process.where}: advertises {address}, its name is {expected}")
            expect(
                services[service].get("clusterIP") == "None", f"{process.where}: Service {service} gives pods no names"
            )
            expect(services[service].get("publishNotReadyAddresses"), f"{process.where}: not found while not ready")
        for name, (listen, advertise) in further_listeners(process.environment).items():
            # Each pod is reached from outside by itself, at the port that it advertises.
            for labels in labels_of_pods(sets[process.role]):
                selector = {"statefulset.kubernetes.io/pod-name": labels["statefulset.kubernetes.io/pod-name"]}
                leads = [each for each in services.values() if each["selector"] == selector]
                to = {(each["port"], each["targetPort"]) for service in leads for each in service["ports"]}
                expect(to == {(port(advertise), name.lower())}, f"{process.where}: {selector} is reached at {to}")
            pod = f"{sets[process.role]['metadata']['name']}-0"
            expect(advertise.startswith(f"{pod}."), f"{process.where}: every pod advertises {advertise}")
    wal = sets["wal"]
    (claim,) = wal["spec"]["volumeClaimTemplates"]
    size = size_of(claim["spec"]["resources"]["requests"]["storage"])
    (capacity,) = [each.environment["TAILWATER_WAL__CAPACITY"] for each in processes if each.role == "wal"]
    expect(size_of(capacity) <= 0.9 * size, f"{where}: a device of {capacity} leaves a volume of {size} bytes no room")


def size_of(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)B?", text).groups()
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def prometheus(metrics: str) -> None:
    """The rules ask for metrics and labels that the server has; every role is scraped, at its HTTP port."""
    source = "\n".join(file.read_text() for file in sorted((ROOT / "crates").rglob("*.rs")))
    registered = set(re.findall(r'"(tailwater_[a-z0-9_]+)"', source))
    shown = set(re.findall(r"^# TYPE (\S+) ", metrics, re.MULTILINE))
    expect(len(shown) > 30, f"a running server shows only {len(shown)} metrics")
    folder = DEPLOY / "prometheus"
    alerts = [rule for group in load(folder / "rules.yml")["groups"] for rule in group["rules"]]
    expect(len(alerts) > 5, f"only {len(alerts)} alerts")
    expect(len({rule["alert"] for rule in alerts}) == len(alerts), "two alerts have one name")
    for rule in alerts:
        named = set(re.findall(r"\b(?:tailwater|process)_[a-z0-9_]+", rule["expr"]))
        expect(bool(named) or rule["expr"].startswith("up{"), f"{rule['alert']} asks for no metric")
        for name in named:
            plain = re.sub(r"_(bucket|sum|count)$", "", name)
            expect(plain in shown or plain in registered, f"{rule['alert']}: no metric {name}")
        for text in re.findall(r'"([^"]*)"', re.sub(r"up\{[^}]*\}", "", rule["expr"])):
            expect(f'"{text}"' in source, f"{rule['alert']}: no metric has a label's value {text!r}")
        expect(rule["labels"]["severity"] in ("warning", "critical"), f"{rule['alert']}: how severe?")
        expect(bool(rule["annotations"]["summary"]), f"{rule['alert']}: what does it mean?")
    for file in ("prometheus.yml", "kubernetes.yml"):
        config = load(folder / file)
        for rules in config["rule_files"]:
            expect((folder / rules).is_file(), f"{file}: no file {rules}")
        jobs = {job["job_name"] for job in config["scrape_configs"]}
        expect(jobs == {"tailwater"}, f"{file}: the rules are about job tailwater, here is {jobs}")
    (job,) = load(folder / "prometheus.yml")["scrape_configs"]
    targets = {target for each in job["static_configs"] for target in each["targets"]}
    targets |= {f"{name}:{each['port']}" for each in job["dns_sd_configs"] for name in each["names"]}
    names = {process.where.split()[-1]: process_port(process) for process in compose()}
    expected = {f"{name}:{number}" for name, number in names.items()}
    expect(targets == expected, f"prometheus.yml scrapes {sorted(targets)}, compose has {sorted(expected)}")
    (job,) = load(folder / "kubernetes.yml")["scrape_configs"]
    kept = {rule["source_labels"][0]: rule["regex"] for rule in job["relabel_configs"] if rule.get("action") == "keep"}
    for folder in kubernetes_folders():
        for each in workloads(render(folder)):
            template = each["spec"]["template"]
            name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
            label = template["metadata"]["labels"]["app.kubernetes.io/name"]
            expect(kept["__meta_kubernetes_pod_label_app_kubernetes_io_name"] == label, f"{name} isn't scraped")
            ports = [rule["name"] for rule in template["spec"]["containers"][0]["ports"]]
            expect(kept["__meta_kubernetes_pod_container_port_name"] in ports, f"{name} isn't scraped at its HTTP port")
            expect([namespace] == job["kubernetes_sd_configs"][0]["namespaces"]["names"], f"{name} isn't looked for")


def instructions(text: str) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in lines.splitlines() if line.strip()]


def dockerfile() -> None:
    """What can be held without building it: stages, copied paths, the binary, its user, ports and folder."""
    file = DEPLOY / "docker" / "Dockerfile"
    steps = instructions(file.read_text())
    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    stages = dict(rest.split(" AS ") for name, rest in steps if name == "FROM" and " AS " in rest)
    stages = {name: image for image, name in stages.items()}
    runtime = {name: rest for name, rest in steps[last:]}
    ignored = file.with_name("Dockerfile.dockerignore").read_text().splitlines()
    expect("*" in ignored, "Dockerfile.dockerignore: the whole checkout would be sent")
    copied = set()
    for name, rest in steps:
        if name != "COPY":
            continue
        flags = [word for word in rest.split() if word.startswith("--")]
        words = [word for word in rest.split() if not word.startswith("--")]
        origin = [flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")]
        if origin:
            expect(origin[0] in stages, f"Dockerfile: no stage {origin[0]}")
            continue
        for path in words[:-1]:
            copied.add(path)
            expect((ROOT / path).exists(), f"Dockerfile copies {path}, which isn't there")
    passed = {line[1:] for line in ignored if line.startswith("!")}
    expect(copied == passed, f"Dockerfile copies {sorted(copied)}, Dockerfile.dockerignore lets {sorted(passed)} pass")
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    needed = {"Cargo.toml", "Cargo.lock", "proto", *(member.split("/")[0] for member in workspace["members"])}
    expect(needed == copied, f"Dockerfile copies {sorted(copied)}, the workspace needs {sorted(needed)}")

    node = tomllib.loads((ROOT / "crates" / "node" / "Cargo.toml").read_text())
    (binary,) = [each["name"] for each in node["bin"]]
    built = next(rest for name, rest in steps if name == "RUN" and "cargo build" in rest)
    expect(f"--package {node['package']['name']} " in built and "--locked" in built, "Dockerfile builds something else")
    installed = json.loads(runtime["ENTRYPOINT"])[0]
    expect(installed.endswith(f"/{binary}"), f"Dockerfile starts {installed}, the binary is {binary}")
    expect(f"target/release/{binary} /out{installed}" in built, "Dockerfile doesn't install what it starts")
    expect(
        any(name == "COPY" and rest == f"--from=build /out{installed} {installed}" for name, rest in steps[last:]),
        f"Dockerfile doesn't copy {installed}",
    )
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    suite = stages["build"].rsplit("-", 1)[1]
    expect(
        stages["build"] == f"rust:{channel}-{suite}", f"Dockerfile builds with {stages['build']}, not Rust {channel}"
    )
    expect(runtime["FROM"] == f"debian:{suite}-slim", f"Dockerfile builds on {suite}, runs on {runtime['FROM']}")
    expect(runtime["STOPSIGNAL"] == "SIGTERM", "Dockerfile: SIGTERM is what stops it in order")

    user, group = (int(number) for number in runtime["USER"].split(":"))
    objects = render(kubernetes_folders()[0])
    for each in workloads(objects):
        pod = each["spec"]["template"]["spec"]
        context = pod["securityContext"]
        expect(
            (context["runAsUser"], context["runAsGroup"]) == (user, group), f"{each['metadata']['name']}: another user"
        )
        for mount in pod["containers"][0]["volumeMounts"]:
            if mount["name"] == "data":
                expect(mount["mountPath"] == runtime["VOLUME"], f"{each['metadata']['name']}: data isn't in the volume")
    expect(user > 0 and f"--uid {user}" in file.read_text(), "Dockerfile: which user?")
    ports = {number for process in kubernetes(kubernetes_folders()[0]) for number in process.ports.values()}
    exposed = {int(number) for number in runtime["EXPOSE"].split()}
    expect(exposed == ports, f"Dockerfile exposes {exposed}, roles have {ports}")


CHECKS = {
    "kubernetes": kubernetes_schemas,
    "compose": compose_parses,
    "one-source": lambda: one_source(sys.argv[2]),
    "prometheus": lambda: prometheus(sys.stdin.read()),
    "dockerfile": dockerfile,
}

if __name__ == "__main__":
    for file in sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")]):
        load_all(file)
    CHECKS[sys.argv[1]]()
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)
