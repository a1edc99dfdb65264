//! The style that a machine can check: what imports what, how long files are, how they begin and what they are called.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tailwater_tests::repository;

/// Lines of a file, its tests not counted.
const MAX_LINES: usize = 600;
const FORBIDDEN_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc"];

/// Layers from the bottom: a crate may import those of lower layers only, never one of its own.
const LAYERS: &[&[&str]] = &[
    &["types"],
    &["kafka", "format", "runtime"],
    &["codec", "log", "store", "rpc", "admin"],
    &["controller", "wal", "frontend", "compactor"],
    &["node"],
    &["tests"],
];

/// Edges inside a layer, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn layer_of(name: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&name));
    found.unwrap_or_else(|| panic!("crate {name} has no layer: give it one in tests/tests/tidy.rs and ARCHITECTURE.md"))
}

/// Each crate of the workspace with those that it imports, without the prefix, as `cargo metadata` knows them.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let done = Command::new(cargo)
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let metadata: Value = serde_json::from_slice(&done.stdout).expect("cargo metadata prints JSON");
    let ours = |name: &Value| {
        name.as_str()
            .and_then(|name| name.strip_prefix("tailwater-"))
            .map(str::to_owned)
    };
    let packages = metadata["packages"].as_array().expect("it lists packages");
    let import = |package: &Value| {
        let dependencies = package["dependencies"]
            .as_array()
            .expect("a package lists its dependencies");
        let name = ours(&package["name"]).expect("every crate of the workspace is called tailwater-*");
        (
            name,
            dependencies
                .iter()
                .filter_map(|dependency| ours(&dependency["name"]))
                .collect(),
        )
    };
    packages.iter().map(import).collect()
}

/// Every source file of the workspace.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder)
            .expect("a folder of the checkout")
            .map(|entry| entry.expect("an entry").path())
        {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository().join("crates"), &mut found);
    walk(&repository().join("tests"), &mut found);
    found.sort();
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(repository()).expect("it lies in the checkout");
    path.components().any(|part| part.as_os_str() == "tests") && !path.starts_with("tests/src")
        || path
            .file_stem()
            .is_some_and(|stem| stem == "tests" || stem == "testing")
}

/// Lines in front of the tests.
fn lines_of_code(text: &str) -> usize {
    text.split("\n#[cfg(test)]\nmod tests {")
        .next()
        .map_or(0, |code| code.lines().count())
}

/// Imports go down the layers only, and never sideways.
#[test]
fn crates_import_downward_only() {
    let mut wrong = Vec::new();
    for (name, imported) in imports() {
        for other in imported {
            let allowed = layer_of(&other) < layer_of(&name) || EXCEPTIONS.contains(&(name.as_str(), other.as_str()));
            if !allowed {
                wrong.push(format!("{name} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows of ARCHITECTURE.md: {wrong:#?}");
}

/// No file is longer than a reader can hold in the head.
#[test]
fn files_are_short() {
    let long = |path: &PathBuf| {
        let lines = lines_of_code(&fs::read_to_string(path).expect("a source is text"));
        (lines > MAX_LINES && !is_test(path)).then(|| format!("{}: {lines} lines", path.display()))
    };
    let long: Vec<_> = sources().iter().filter_map(long).collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:#?}");
}

/// Every file says what it owns before it does anything.
#[test]
fn files_begin_with_what_they_own() {
    let silent = |path: &&PathBuf| {
        let text = fs::read_to_string(path).expect("a source is text");
        !is_test(path) && !text.starts_with("//!")
    };
    let silent: Vec<_> = sources().iter().filter(silent).cloned().collect();
    assert!(silent.is_empty(), "without //! at the top: {silent:#?}");
}

/// Every rule of docs/kafka.md that is said to hold has a test called after it, and no test one that isn't there.
#[test]
fn rules_of_kafka_have_tests() {
    let text = fs::read_to_string(repository().join("docs/kafka.md")).expect("docs/kafka.md");
    let number = |word: &str| word.trim().parse::<u32>().ok();
    let rules: BTreeSet<u32> = text
        .lines()
        .filter_map(|line| number(line.strip_prefix("| ")?.split_once('|')?.0))
        .collect();
    let not_yet = text.lines().find_map(|line| line.strip_prefix("Not held yet: "));
    let not_yet: BTreeSet<u32> = not_yet
        .unwrap_or_default()
        .split([',', '.'])
        .filter_map(number)
        .collect();
    let mut tested = BTreeSet::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source is text");
        let named = text.split("fn rule_").skip(1);
        tested.extend(named.filter_map(|rest| number(rest.split_once('_')?.0)));
    }
    let held: BTreeSet<u32> = rules.difference(&not_yet).copied().collect();
    assert!(rules.len() > 30, "the table of docs/kafka.md has {} rules", rules.len());
    let untested: Vec<_> = held.difference(&tested).collect();
    assert!(untested.is_empty(), "rules without a test: {untested:?}");
    let unknown: Vec<_> = tested.difference(&held).collect();
    assert!(unknown.is_empty(), "tested, but not said to hold: {unknown:?}");
}

/// No file or folder has a name that says nothing.
#[test]
fn names_say_something() {
    let nameless = |path: &&PathBuf| {
        let path = path
            .strip_prefix(repository())
            .expect("it lies in the checkout")
            .with_extension("");
        path.components()
            .any(|part| FORBIDDEN_NAMES.iter().any(|name| part.as_os_str() == *name))
    };
    let nameless: Vec<_> = sources().iter().filter(nameless).cloned().collect();
    assert!(nameless.is_empty(), "call it by what it does: {nameless:#?}");
}

/// What this file counts and finds is what it says.
#[test]
fn the_checks_can_fail() {
    let long = "line\n".repeat(MAX_LINES + 1);
    assert!(lines_of_code(&long) > MAX_LINES);
    assert_eq!(
        lines_of_code(&format!("a\nb\n\n#[cfg(test)]\nmod tests {{\n{long}}}")),
        2
    );
    assert!(is_test(&repository().join("crates/wal/src/journal/tests.rs")));
    assert!(!is_test(&repository().join("tests/src/server.rs")));
    assert!(layer_of("wal") == layer_of("frontend") && layer_of("types") < layer_of("node"));
}
