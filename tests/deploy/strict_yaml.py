"""YAML in which no key of a mapping may stand twice: the parser alone would keep the last and say nothing."""

from pathlib import Path

import yaml


class StrictLoader(yaml.SafeLoader):
    pass


def _mapping(loader, node):
    seen = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands here twice", key.start_mark)
        seen.add(name)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_all(path: Path) -> list:
    """Every document of a file but empty ones."""
    with path.open() as file:
        return [document for document in yaml.load_all(file, Loader=StrictLoader) if document is not None]


def load(path: Path):
    """The one document of a file."""
    documents = load_all(path)
    if len(documents) != 1:
        raise ValueError(f"{path}: {len(documents)} documents, expected one")
    return documents[0]
