//! Topic names: which are legal, which are the cluster's own, which collide (docs/kafka.md rule 27).

use crate::view::Snapshot;

/// Where consumer groups keep what they commit.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Where transaction coordinators keep what they decide.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";

/// What Kafka's brokers keep for themselves.
const INTERNAL: &[&str] = &[CONSUMER_OFFSETS, TRANSACTION_STATE, "__share_group_state"];

const MAX_CHARS: usize = 249;

/// # Errors
/// What is wrong with the name, in Kafka's words.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > MAX_CHARS => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_CHARS}")
        }
        _ if !name.chars().all(is_legal) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {wrong}"))
}

pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Another topic whose name differs in `.` and `_` only: Kafka's metrics can't tell them apart, so it refuses the second.
pub(crate) fn collision<'a>(name: &str, view: &'a Snapshot) -> Option<&'a str> {
    let same =
        |other: &str| other.len() == name.len() && other.bytes().zip(name.bytes()).all(|(a, b)| fold(a) == fold(b));
    let mut names = view.topics().map(|topic| topic.info.name.as_str());
    names.find(|other| *other != name && same(other))
}

fn fold(byte: u8) -> u8 {
    if byte == b'.' { b'_' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 27: legal names, and what Apache Kafka 4.3.0 says of others.
    #[test]
    fn rule_27_names_are_checked_as_kafka_checks_them() {
        let longest = "x".repeat(249);
        for name in ["a", "a.b_c-D9", "...", &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let refused = [
            ("", "the empty string is not allowed"),
            (".", "'.' is not allowed"),
            ("..", "'..' is not allowed"),
            (
                "a/b",
                "'a/b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
            ),
            (
                "é",
                "'é' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
            ),
        ];
        for (name, wrong) in refused {
            assert_eq!(check(name), Err(format!("Topic name is invalid: {wrong}")));
        }
        assert!(check(&"x".repeat(250)).is_err());
    }
}
