//! What the value of a setting may be, as Apache Kafka 4.3 parses and checks it.
//!
//! Owns: one variant a sort of value, with Kafka's words for what is wrong, its type on the wire, and how it is shown. Does
//! not own: which setting has which (the tables).

/// The sort and the bounds of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    /// 16 bits.
    Short,
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
    /// Between the values of two broker settings, `min` and `max`, each behind the name it is refused with.
    Within {
        min: (i32, &'static str),
        max: (i32, &'static str),
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
    /// A list of anything.
    List,
    Text,
    /// `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration (KIP-1106).
    OffsetReset,
}

impl Values {
    /// # Errors
    /// What is wrong with `value` for the setting `name`, in Kafka's words.
    pub fn check(self, name: &str, value: &str) -> Result<(), String> {
        match self {
            Self::OnlyFalse(why) if parse_bool(value.trim()) == Ok(true) => return Err(why.to_owned()),
            Self::Within { min, max } => {
                let number: i64 = parse_int(value.trim())
                    .map_err(|wrong| invalid(name, value, &wrong))?
                    .into();
                return match number {
                    _ if number < min.0.into() => Err(format!("{name} must be greater than or equal to {}", min.1)),
                    _ if number > max.0.into() => Err(format!("{name} must be less than or equal to {}", max.1)),
                    _ => Ok(()),
                };
            }
            _ => {}
        }
        self.check_value(name, value.trim())
            .map_err(|wrong| invalid(name, value, &wrong))
    }

    /// # Errors
    /// What is wrong, in the words of Kafka behind "Invalid value … for configuration …: ".
    fn check_value(self, name: &str, value: &str) -> Result<(), String> {
        match self {
            Self::Short => value
                .parse::<i16>()
                .map(drop)
                .map_err(|_| "Not a number of type SHORT".to_owned()),
            Self::Int { min, max } => between(parse_int(value)?.into(), min.into(), max.into()),
            Self::IntOr { min, max, or } => match parse_int(value)? {
                number if number == or || (min <= number && number <= max) => Ok(()),
                _ => Err(format!("Value must be between {min} and {max} or equal to {or}")),
            },
            Self::Within { .. } => parse_int(value).map(drop),
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
            Self::Bool | Self::OnlyFalse(_) => parse_bool(value).map(drop),
            Self::OneOf(allowed) => one_of(value, allowed),
            Self::SomeOf(allowed) => items(value).try_for_each(|item| one_of(item, allowed)),
            Self::Replicas => match value == "*" || items(value).all(is_replica) {
                true => Ok(()),
                false => Err("must be the literal '*' or a list of replicas, each [partition]:[broker]".to_owned()),
            },
            Self::List | Self::Text => Ok(()),
            Self::OffsetReset => match is_offset_reset(value) {
                true => Ok(()),
                false => Err(format!(
                    "Invalid value `{value}` for configuration {name}. The value must be either 'earliest', 'latest' or \
                     of the format 'by_duration:<PnDTnHnMn.nS>'."
                )),
            },
        }
    }

    pub fn is_list(self) -> bool {
        matches!(self, Self::SomeOf(_) | Self::Replicas | Self::List)
    }

    /// Kafka's number of the type (ConfigDef.Type, as DescribeConfigs has it).
    pub fn config_type(self) -> i8 {
        match self {
            Self::Bool | Self::OnlyFalse(_) => 1,
            Self::OneOf(_) | Self::Text | Self::OffsetReset => 2,
            Self::Int { .. } | Self::IntOr { .. } | Self::Within { .. } => 3,
            Self::Short => 4,
            Self::Long { .. } => 5,
            Self::Ratio => 6,
            Self::SomeOf(_) | Self::Replicas | Self::List => 7,
        }
    }

    /// A legal value as Kafka shows it: as it has understood it.
    pub fn shown(self, value: &str) -> String {
        match self {
            Self::Bool | Self::OnlyFalse(_) => value.trim().to_ascii_lowercase(),
            _ if self.is_list() => items(value).collect::<Vec<_>>().join(","),
            _ => value.trim().to_owned(),
        }
    }
}

fn invalid(name: &str, value: &str, wrong: &str) -> String {
    format!("Invalid value {value} for configuration {name}: {wrong}")
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

fn is_offset_reset(value: &str) -> bool {
    match value.strip_prefix("by_duration:") {
        Some(duration) => is_duration(duration),
        None => matches!(value, "earliest" | "latest"),
    }
}

/// `PnDTnHnMn.nS` with at least one part.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('P') else {
        return false;
    };
    let (days, time) = match rest.split_once('T') {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    if time.is_some_and(str::is_empty) || (days.is_empty() && time.is_none()) {
        return false;
    }
    has_units(days, "D") && has_units(time.unwrap_or_default(), "HMS")
}

/// Numbers, each behind by one of `units`, which come in their order; only seconds may have a fraction.
fn has_units(text: &str, units: &str) -> bool {
    let (mut rest, mut left) = (text, units);
    while !rest.is_empty() {
        let Some(at) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') else {
            return false;
        };
        let (number, behind) = rest.split_at(at);
        let unit = behind.chars().next().unwrap_or_default();
        let Some(known) = left.find(unit) else { return false };
        let is_number = number.parse::<f64>().is_ok() && (unit == 'S' || !number.contains('.'));
        if !is_number {
            return false;
        }
        (rest, left) = (&behind[unit.len_utf8()..], &left[known + unit.len_utf8()..]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Durations are ISO 8601's, with days as the largest unit.
    #[test]
    fn durations_are_recognised() {
        for good in ["P1D", "PT1H", "P2DT3H4M5.5S", "PT0.1S", "PT15M"] {
            assert!(is_offset_reset(&format!("by_duration:{good}")), "{good}");
        }
        for bad in ["", "P", "PT", "1D", "P1H", "PT1D", "PT1S1M", "PT1.5H", "PTxS", "P1DT"] {
            assert!(!is_offset_reset(&format!("by_duration:{bad}")), "{bad}");
        }
    }

    /// A value is shown as it is understood.
    #[test]
    fn values_are_shown_as_understood() {
        assert_eq!(Values::SomeOf(&["a", "b"]).shown(" a , b ,"), "a,b");
        assert_eq!(Values::Bool.shown(" TRUE "), "true");
        assert_eq!(Values::Long { min: 0 }.shown(" 78 "), "78");
    }
}
