//! What a command has to say: tables or JSON on stdout, notes and failures on stderr, and the exit code.
//!
//! Owns: how tables are aligned, that a reader who has gone away is no failure, and that text from the cluster can't steer
//! a terminal. JSON stands there even if some of it failed.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};
use tailwater_types::Outcome;

use crate::arguments::Format;
use crate::client::Outcomes;
use crate::error::{self, Error};

const GAP: &str = "  ";
/// In a table, what isn't there.
pub const NOTHING: &str = "-";

/// What failed, each with what it was about.
pub type Failures = Vec<(String, Error)>;

#[derive(Debug)]
pub struct Report {
    json: String,
    sections: Vec<Section>,
    notes: Vec<String>,
    failures: Vec<String>,
}

#[derive(Debug)]
enum Section {
    Line(String),
    Table(Table),
}

#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// `json` is everything that the command found; the tables are added.
    pub fn new(json: &impl Serialize) -> Self {
        Self {
            json: serde_json::to_string_pretty(json).expect("plain data becomes JSON"),
            sections: Vec::new(),
            notes: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// What came of changes, one line each: of a `kind` of thing, with what was done to it.
    pub fn of_changes<T: Display>(kind: &'static str, outcomes: &Outcomes<String, T>) -> Self {
        let item = |(name, outcome): &(String, Result<T, Error>)| {
            let (done, failed) = match outcome {
                Ok(done) => (done.to_string(), Value::Null),
                Err(error) => (failed(error).to_owned(), error_json(error)),
            };
            json!({ kind: name, "outcome": done, "error": failed })
        };
        let items: Vec<Value> = outcomes.iter().map(item).collect();
        let mut report = Self::new(&items);
        for (name, outcome) in outcomes {
            match outcome {
                Ok(done) => report.line(format!("{kind} {name}: {done}")),
                Err(error) => report.failure(format!("{kind} {name}"), error),
            }
        }
        report
    }

    pub fn line(&mut self, text: impl Into<String>) {
        self.sections.push(Section::Line(text.into()));
    }

    pub fn table(&mut self, table: Table) {
        self.sections.push(Section::Table(table));
    }

    /// Something that a person should know, and that is no failure.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A part of the command failed: the exit code will be 1.
    pub fn failure(&mut self, what: impl Display, error: &Error) {
        self.failures.push(format!("{what}: {error}"));
    }

    /// The `Ok`s among `outcomes`, and the others, each about a `kind` of thing.
    pub fn sift<K: Display, T>(kind: &str, outcomes: Outcomes<K, T>) -> (Vec<T>, Failures) {
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for (key, outcome) in outcomes {
            match outcome {
                Ok(value) => good.push(value),
                Err(error) => bad.push((format!("{kind} {key}"), error)),
            }
        }
        (good, bad)
    }

    pub fn failures(&mut self, failures: &[(String, Error)]) {
        for (what, error) in failures {
            self.failure(what, error);
        }
    }

    /// Prints all of it.
    pub fn print(self, format: Format) -> ExitCode {
        let mut code = match self.failures.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
        if let Err(error) = self.write(format, &mut io::stdout().lock())
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            say(&format!("what was found can't be printed: {error}"));
            code = ExitCode::FAILURE;
        }
        self.notes.iter().chain(&self.failures).for_each(|text| say(text));
        code
    }

    fn write(&self, format: Format, out: &mut impl Write) -> io::Result<()> {
        match format {
            Format::Json => writeln!(out, "{}", self.json)?,
            Format::Table => {
                for section in &self.sections {
                    match section {
                        Section::Line(text) => writeln!(out, "{}", printable(text))?,
                        Section::Table(table) => table.write(out)?,
                    }
                }
            }
        }
        out.flush()
    }
}

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    /// As many cells as the header has; an empty one shows as [`NOTHING`].
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has the header's cells");
        let shown = |cell: String| match cell.is_empty() {
            true => NOTHING.to_owned(),
            false => printable(&cell),
        };
        self.rows.push(cells.into_iter().map(shown).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns of numbers stand on the right; the last column isn't filled up.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let column = |at: usize| self.rows.iter().map(move |row| row[at].as_str());
        let is_number = |cell: &str| cell == NOTHING || cell.parse::<i64>().is_ok();
        let columns: Vec<(usize, bool)> = self
            .header
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let widest = column(at).map(|cell| cell.chars().count()).max().unwrap_or(0);
                let numbers = column(at).all(is_number) && column(at).any(|cell| cell != NOTHING);
                (widest.max(name.len()), numbers)
            })
            .collect();
        let mut line = |cells: &[&str]| {
            let padded = cells.iter().zip(&columns).map(|(cell, &(width, right))| match right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            let text = padded.collect::<Vec<_>>().join(GAP);
            writeln!(out, "{}", text.trim_end())
        };
        line(&self.header)?;
        self.rows
            .iter()
            .try_for_each(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

/// One sentence on stderr.
pub fn complain(error: &Error) {
    say(&error.to_string());
}

fn say(text: &str) {
    // Not eprintln!, which panics where nobody listens.
    let _ = writeln!(io::stderr(), "tailwater: {}", printable(text));
}

/// Names of clients and members are anything: what would steer a terminal is shown as `?`.
fn printable(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(shown).collect()
}

/// What is said of a change that came to nothing, as far as is known.
pub fn failed(error: &Error) -> &'static str {
    match error.outcome() {
        Outcome::DidNotHappen => "failed",
        Outcome::Unknown => "unknown",
    }
}

fn error_json(failed: &Error) -> Value {
    match failed {
        Error::Refused { error, message } => {
            json!({ "code": error.code(), "name": error::name(*error), "message": message })
        }
        other => json!({ "code": null, "name": null, "message": other.to_string() }),
    }
}

/// Bytes for people.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "it is rounded anyway")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes}B"),
        _ => format!("{value:.1}{}", UNITS[unit]),
    }
}

/// A cell of something that may not be there.
pub fn cell<T: Display>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A cell of several things.
pub fn list<T: Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(report: &Report, format: Format) -> String {
        let mut out = Vec::new();
        report.write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Columns are as wide as their widest cell, numbers stand on the right, nothing is a dash, lines end without blanks.
    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["NAME", "COUNT", "WHERE"]);
        table.row(vec!["a-long-name".to_owned(), "7".to_owned(), String::new()]);
        table.row(vec!["b\u{1b}[2J".to_owned(), "1000000".to_owned(), "here".to_owned()]);
        let mut report = Report::new(&Vec::<i32>::new());
        report.table(table);
        let expected = "NAME           COUNT  WHERE\na-long-name        7  -\nb?[2J        1000000  here\n";
        assert_eq!(printed(&report, Format::Table), expected);
        assert_eq!(printed(&report, Format::Json), "[]\n");
    }

    /// What a change did or why not is one object each, and each failure a sentence.
    #[test]
    fn changes_say_what_became_of_each() {
        let refused = Error::refused(tailwater_kafka::ErrorCode::TopicAlreadyExists, None);
        let outcomes = vec![("a".to_owned(), Ok("created")), ("b".to_owned(), Err(refused))];
        let report = Report::of_changes("topic", &outcomes);
        assert_eq!(printed(&report, Format::Table), "topic a: created\n");
        let failure = "topic b: TOPIC_ALREADY_EXISTS: a topic of that name exists already";
        assert_eq!(report.failures, [failure]);
        let json: Value = serde_json::from_str(&printed(&report, Format::Json)).unwrap();
        assert_eq!(json[0], json!({ "topic": "a", "outcome": "created", "error": null }));
        assert_eq!(json[1]["error"]["name"], "TOPIC_ALREADY_EXISTS");
        assert_eq!(
            (&json[1]["outcome"], &json[1]["error"]["code"]),
            (&json!("failed"), &json!(36))
        );
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(5 << 30)],
            ["0B", "1023B", "1.5KiB", "5.0GiB"]
        );
    }
}
