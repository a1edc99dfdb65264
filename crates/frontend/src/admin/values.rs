//! What the value of a topic setting may be, as Apache Kafka 4.3 parses and checks it.
//!
//! Owns: one variant a sort of value, with Kafka's words for what is wrong. Does not own: which setting has which
//! (`settings.rs`).

/// The sort and the bounds of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    /// 32 bits, both bounds inclusive.
    Int {
        min: i32,
        max: i32,
    },
    /// As [`Values::Int`], or this value.
    IntOr {
        min: i32,
        max: i32,
        or: i32,
    },
    /// 64 bits, bounded below.
    Long {
        min: i64,
    },
    /// From 0 to 1.
    Ratio,
    Bool,
    /// True is refused, with these words.
    OnlyFalse(&'static str),
    OneOf(&'static [&'static str]),
    /// A list, separated by commas, of these.
    SomeOf(&'static [&'static str]),
    /// `*`, or a list of partition:broker.
    Replicas,
}

impl Values {
    /// # Errors
    /// What is wrong with `value`, in the words of Kafka behind "Invalid value … for configuration …: ".
    pub fn check(self, value: &str) -> Result<(), String> {
        let value = value.trim();
        match self {
            Self::Int { min, max } => between(parse_int(value)?.into(), min.into(), max.into()),
            Self::IntOr { min, max, or } => match parse_int(value)? {
                number if number == or || (min <= number && number <= max) => Ok(()),
                _ => Err(format!("Value must be between {min} and {max} or equal to {or}")),
            },
            Self::Long { min } => {
                let number = value.parse().map_err(|_| "Not a number of type LONG".to_owned())?;
                between(number, min, i64::MAX)
            }
            Self::Ratio => match value.parse::<f64>() {
                Ok(number) if number < 0.0 => Err("Value must be at least 0".to_owned()),
                Ok(number) if number > 1.0 => Err("Value must be no more than 1".to_owned()),
                Ok(number) if number.is_finite() => Ok(()),
                _ => Err("Not a number of type DOUBLE".to_owned()),
            },
            Self::Bool => parse_bool(value).map(drop),
            Self::OnlyFalse(why) => match parse_bool(value)? {
                true => Err(why.to_owned()),
                false => Ok(()),
            },
            Self::OneOf(allowed) => one_of(value, allowed),
            Self::SomeOf(allowed) => items(value).try_for_each(|item| one_of(item, allowed)),
            Self::Replicas => match value == "*" || items(value).all(is_replica) {
                true => Ok(()),
                false => Err("must be the literal '*' or a list of replicas, each [partition]:[broker]".to_owned()),
            },
        }
    }
}

/// The parts of a list; an empty text has none.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parse_int(value: &str) -> Result<i32, String> {
    value.parse().map_err(|_| "Not a number of type INT".to_owned())
}

pub(crate) fn parse_bool(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("Expected value to be either true or false".to_owned()),
    }
}

fn between(number: i64, min: i64, max: i64) -> Result<(), String> {
    match number {
        _ if number < min => Err(format!("Value must be at least {min}")),
        _ if number > max => Err(format!("Value must be no more than {max}")),
        _ => Ok(()),
    }
}

fn one_of(value: &str, allowed: &[&str]) -> Result<(), String> {
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(format!("String must be one of: {}", allowed.join(", "))),
    }
}

fn is_replica(item: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    item.split_once(':')
        .is_some_and(|(partition, broker)| number(partition) && number(broker))
}
