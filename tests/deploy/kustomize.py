"""As much of kustomize as deploy/kubernetes uses, so that its tests need no kubectl. What it doesn't know, it refuses.

Generated ConfigMaps and Secrets keep their plain names here; kustomize adds a hash of their content.
"""

import copy
import re
from pathlib import Path

from strict_yaml import load, load_all

KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "patches",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
}
CLUSTER_SCOPED = {"Namespace"}


def render(folder: Path) -> list[dict]:
    """The objects that `kubectl apply -k folder` sends."""
    folder = folder.resolve()
    file = folder / "kustomization.yaml"
    kustomization = load(file)
    unknown = set(kustomization) - KNOWN
    if unknown or kustomization["kind"] != "Kustomization":
        raise ValueError(
            f"{file}: {sorted(unknown)} of a {kustomization['kind']} isn't known here: extend kustomize.py"
        )
    objects = []
    for resource in kustomization.get("resources", []):
        path = (folder / resource).resolve()
        if path.is_dir():
            objects += render(path)
        elif folder in path.parents:
            objects += load_all(path)
        else:
            raise ValueError(f"{file}: kustomize takes no file from outside its folder: {resource}")
    for generator in kustomization.get("configMapGenerator", []):
        generate("ConfigMap", "data", generator, folder, objects)
    for generator in kustomization.get("secretGenerator", []):
        generate("Secret", "stringData", generator, folder, objects)
    for patch in kustomization.get("patches", []):
        apply(load(folder / patch["path"]), patch["target"], objects)
    for image in kustomization.get("images", []):
        set_image(image, objects)
    for replicas in kustomization.get("replicas", []):
        found = [o for o in workloads(objects) if o["metadata"]["name"] == replicas["name"]]
        if not found:
            raise ValueError(f"{file}: replicas of {replicas['name']}, which isn't there")
        found[0]["spec"]["replicas"] = replicas["count"]
    for each in objects:
        if "namespace" in kustomization and each["kind"] not in CLUSTER_SCOPED:
            each["metadata"]["namespace"] = kustomization["namespace"]
    return objects


def workloads(objects: list[dict]) -> list[dict]:
    return [each for each in objects if each["kind"] in ("StatefulSet", "Deployment")]


def generate(kind: str, field: str, generator: dict, folder: Path, objects: list[dict]) -> None:
    unknown = set(generator) - {"name", "behavior", "files", "literals"}
    if unknown:
        raise ValueError(f"{folder}: {sorted(unknown)} of a generator isn't known here: extend kustomize.py")
    data = {}
    for name in generator.get("files", []):
        path = (folder / name).resolve()
        if folder not in path.parents:
            raise ValueError(f"{folder}: kustomize takes no file from outside its folder: {name}")
        data[path.name] = path.read_text()
    for literal in generator.get("literals", []):
        key, value = literal.split("=", 1)
        data[key] = value
    same = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == generator["name"]]
    behavior = generator.get("behavior", "create")
    if (behavior, len(same)) not in [("create", 0), ("merge", 1)]:
        raise ValueError(f"{folder}: {behavior} {kind} {generator['name']}: {len(same)} are there")
    if same:
        same[0][field].update(data)
    else:
        objects.append({"apiVersion": "v1", "kind": kind, "metadata": {"name": generator["name"]}, field: data})


def apply(patch: dict | list, target: dict, objects: list[dict]) -> None:
    """Lays a strategic merge over what the target names, or adds what a list of JSON 6902 operations adds."""
    unknown = set(target) - {"kind", "name"}
    if unknown:
        raise ValueError(f"{sorted(unknown)} of a patch's target isn't known here: extend kustomize.py")
    targets = [
        each
        for each in objects
        if re.fullmatch(target["kind"], each["kind"]) and re.fullmatch(target.get("name", ".*"), each["metadata"]["name"])
    ]
    if not targets:
        raise ValueError(f"a patch for {target} meets nothing")
    for each in targets:
        if isinstance(patch, list):
            for operation in patch:
                add(each, copy.deepcopy(operation))
        else:
            laid = {key: value for key, value in patch.items() if key not in ("apiVersion", "kind", "metadata")}
            merge(each, copy.deepcopy(laid))


def add(into: dict, operation: dict) -> None:
    """Appends to the list that a JSON 6902 operation names; other operations aren't needed so far."""
    *path, last = operation["path"].removeprefix("/").split("/")
    if operation["op"] != "add" or last != "-":
        raise ValueError(f"{operation['op']} {operation['path']} isn't known here: extend kustomize.py")
    for part in path:
        into = into[int(part)] if isinstance(into, list) else into[part]
    into.append(operation["value"])


def merge(into: dict, patch: dict) -> None:
    """A strategic merge of mappings, and of lists whose items have names."""
    for key, value in patch.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merge(old, value)
        elif isinstance(old, list) and all(isinstance(item, dict) and "name" in item for item in old + value):
            by_name = {item["name"]: item for item in old}
            for item in value:
                if item["name"] in by_name:
                    merge(by_name[item["name"]], item)
                else:
                    old.append(item)
        else:
            into[key] = value


def set_image(image: dict, objects: list[dict]) -> None:
    met = False
    for each in workloads(objects):
        for container in each["spec"]["template"]["spec"]["containers"]:
            name, tag = container["image"].rsplit(":", 1)
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
                met = True
    if not met:
        raise ValueError(f"no container has the image {image['name']}")
