//! Settings out of three layers, file < environment < flags, into one [`Config`].
//!
//! Owns: where a value may come from, and the sentence that names key and origin when it is refused. Environment
//! variables are `TAILWATER_SECTION__KEY`; names without the double underscore are not ours (Kubernetes sets
//! `TAILWATER_PORT` by itself). Does not own: which settings there are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::{Table, Value};

use crate::config::Config;

const PREFIX: &str = "TAILWATER_";
const SEPARATOR: &str = "__";
/// The section whose keys are names, which are the same in any case.
const LISTENERS: [&str; 2] = ["frontend", "listeners"];

/// A configuration that can't be used: one sentence, which names the key and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// One value from the environment or a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As in "environment variable TAILWATER_WAL__CAPACITY".
    origin: String,
    path: Vec<String>,
    text: String,
}

impl Setting {
    /// `key` is dotted, as in `wal.capacity`.
    pub fn new(origin: &str, key: &str, text: &str) -> Self {
        let mut path: Vec<String> = key.split('.').map(str::to_owned).collect();
        // Variables have no case, and in TOML there is one: the same listener is meant.
        if let [frontend, listeners, name, ..] = &mut path[..]
            && [frontend.as_str(), listeners.as_str()] == LISTENERS
        {
            name.make_ascii_uppercase();
        }
        Self {
            origin: origin.to_owned(),
            path,
            text: text.to_owned(),
        }
    }

    /// # Errors
    /// If `text` isn't `KEY=VALUE`.
    pub fn from_key_value(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let split = text.split_once('=').filter(|(key, _)| key.contains('.'));
        let (key, value) =
            split.ok_or_else(|| ConfigError(format!("{origin}: expected SECTION.KEY=VALUE, found {text:?}")))?;
        Ok(Self::new(&format!("{origin} {key}"), key, value))
    }
}

/// What was found, before it is understood.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    pub file: Option<(PathBuf, String)>,
    pub environment: Vec<Setting>,
    pub flags: Vec<Setting>,
}

/// # Errors
/// If the file can't be read.
pub fn read_file(path: &Path) -> Result<(PathBuf, String), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("configuration file {}: {error}", path.display())))?;
    Ok((path.to_owned(), text))
}

/// Those variables that are ours, in the order of their names.
pub fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Setting> {
    let ours = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let key = name.strip_prefix(PREFIX).filter(|key| key.contains(SEPARATOR))?;
        let key = key.to_ascii_lowercase().replace(SEPARATOR, ".");
        Some(Setting::new(
            &format!("environment variable {name}"),
            &key,
            &value.to_string_lossy(),
        ))
    };
    let mut settings: Vec<_> = variables.filter_map(ours).collect();
    settings.sort_by(|a, b| a.origin.cmp(&b.origin));
    settings
}

impl Layers {
    /// # Errors
    /// The first value that isn't a setting's.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut table = match &self.file {
            Some((path, text)) => parse_file(path, text)?,
            None => Table::new(),
        };
        for setting in self.environment.iter().chain(&self.flags) {
            table = apply(&table, setting)?;
        }
        Config::deserialize(table).map_err(|error| ConfigError(one_line(error.message())))
    }
}

fn parse_file(path: &Path, text: &str) -> Result<Table, ConfigError> {
    // Once as what it must become, since only that knows the line of a key that isn't known.
    let parsed = toml::from_str::<Config>(text).and_then(|_| toml::from_str::<Table>(text));
    let parsed = parsed.map_err(|error| {
        let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
        let line = line.map_or_else(String::new, |line| format!(", line {line}"));
        ConfigError(format!(
            "configuration file {}{line}: {}",
            path.display(),
            one_line(error.message())
        ))
    })?;
    with_listener_names(parsed).map_err(|why| ConfigError(format!("configuration file {}: {why}", path.display())))
}

/// `table` with the names of listeners in capitals.
fn with_listener_names(mut table: Table) -> Result<Table, String> {
    let [frontend, listeners] = LISTENERS;
    let section = table.get_mut(frontend).and_then(Value::as_table_mut);
    let section = section.and_then(|section| section.get_mut(listeners)?.as_table_mut());
    if let Some(section) = section {
        for (name, listener) in std::mem::take(section) {
            let name = name.to_ascii_uppercase();
            if section.insert(name.clone(), listener).is_some() {
                return Err(format!("{frontend}.{listeners}.{name} stands there twice"));
            }
        }
    }
    Ok(table)
}

/// `table` with the setting in it.
fn apply(table: &Table, setting: &Setting) -> Result<Table, ConfigError> {
    let key = setting.path.join(".");
    let refuse = |why: String| ConfigError(format!("{}: {key} = {:?}: {why}", setting.origin, setting.text));
    // A text as it stands where text is wanted, otherwise what TOML reads in it: a number, a list.
    let literal = toml::from_str::<Table>(&format!("value = {}", setting.text))
        .ok()
        .and_then(|mut table| table.remove("value"));
    let mut why = String::new();
    for value in [Some(Value::String(setting.text.clone())), literal]
        .into_iter()
        .flatten()
    {
        let mut changed = table.clone();
        insert(&mut changed, &setting.path, value).map_err(refuse)?;
        match Config::deserialize(changed.clone()) {
            Ok(_) => return Ok(changed),
            Err(error) => why = one_line(error.message()),
        }
    }
    Err(refuse(why))
}

fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Err("it has no name".to_owned()),
        [name] => {
            table.insert(name.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => match table
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(inner) => insert(inner, rest, value),
            _ => Err(format!("{section} is no section")),
        },
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<Setting> {
        environment(pairs.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    /// A flag wins over the environment, which wins over the file; what nobody sets keeps its default.
    #[test]
    fn flags_win_over_environment_over_file() {
        let file = Some((
            PathBuf::from("f.toml"),
            "[log]\nfilter = 'file'\n[http]\nlisten = '127.0.0.1:1'".to_owned(),
        ));
        let environment = variables(&[
            ("TAILWATER_LOG__FILTER", "environment"),
            ("TAILWATER_HTTP__LISTEN", "127.0.0.1:2"),
        ]);
        let flags = vec![Setting::new("flag --log", "log.filter", "flag")];
        let config = Layers {
            file,
            environment,
            flags,
        }
        .load()
        .unwrap();
        assert_eq!(config.log.filter, "flag");
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:2");
        assert_eq!(config.node.data_dir, Config::default().node.data_dir);
    }

    /// Numbers and lists are read where a text isn't wanted.
    #[test]
    fn a_setting_may_be_a_number() {
        let environment = variables(&[("TAILWATER_NODE__WORKER_THREADS", "3")]);
        assert_eq!(
            Layers {
                environment,
                ..Layers::default()
            }
            .load()
            .unwrap()
            .node
            .worker_threads,
            3
        );
    }

    /// A variable without the double underscore is somebody else's.
    #[test]
    fn other_variables_are_left_alone() {
        assert_eq!(
            variables(&[("TAILWATER_PORT", "tcp://10.0.0.1:9092"), ("PATH", "/bin")]),
            []
        );
    }

    /// A listener's name is the same in any case, so that a variable wins over the file's.
    #[test]
    fn listeners_are_called_the_same_in_any_case() {
        let layers = |text: &str| Layers {
            file: Some((PathBuf::from("f.toml"), text.to_owned())),
            environment: variables(&[("TAILWATER_FRONTEND__LISTENERS__OUT__ADVERTISE", "there:1")]),
            ..Layers::default()
        };
        let config = layers("[frontend.listeners.Out]\nlisten = '127.0.0.1:1'\nadvertise = 'here:1'").load();
        let listeners = config.unwrap().frontend.listeners;
        assert_eq!(listeners.keys().collect::<Vec<_>>(), ["OUT"]);
        assert_eq!(
            (&*listeners["OUT"].listen, &*listeners["OUT"].advertise),
            ("127.0.0.1:1", "there:1")
        );
        let twice = layers("[frontend.listeners]\nout = {}\nOUT = {}").load().unwrap_err();
        assert!(
            twice.to_string().contains("frontend.listeners.OUT stands there twice"),
            "{twice}"
        );
    }

    /// What is refused names the key and where it came from, in one line.
    #[test]
    fn errors_name_key_and_origin() {
        let file = |text: &str| Layers {
            file: Some((PathBuf::from("f.toml"), text.to_owned())),
            ..Layers::default()
        };
        let error = file("[log]\nfilter = 'x'\ncolour = 'y'")
            .load()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("configuration file f.toml, line 3: unknown field `colour`"),
            "{error}"
        );

        let environment = variables(&[("TAILWATER_WAL__NO_SUCH", "1")]);
        let error = Layers {
            environment,
            ..Layers::default()
        }
        .load()
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("environment variable TAILWATER_WAL__NO_SUCH: wal.no_such = \"1\": unknown field"),
            "{error}"
        );

        let flags = vec![Setting::from_key_value("flag --set", "node.worker_threads=many").unwrap()];
        let error = Layers {
            flags,
            ..Layers::default()
        }
        .load()
        .unwrap_err()
        .to_string();
        assert!(
            error.starts_with("flag --set node.worker_threads: node.worker_threads = \"many\": invalid type"),
            "{error}"
        );
        assert!(!error.contains('\n'));

        assert!(Setting::from_key_value("flag --set", "nonsense").is_err());
    }
}
