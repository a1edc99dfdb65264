//! The topics that the members of a group want, as far as there are any.
//!
//! Owns: what is asked of the cluster's metadata, regular expressions over topics' names (KIP-848), and the hash that shows
//! that something has changed which asks for another assignment.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use tailwater_types::TopicId;

use super::heartbeat::Settings;
use super::record::{ConsumerRecord, Subscription};
use super::state::{Draft, ResolvedRegex, State};
use crate::coordinator::Now;

/// The memory that a compiled expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// A topic as an assignment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShape {
    pub id: TopicId,
    pub partitions: i32,
}

/// What a group sees of the cluster at one time.
pub trait Topics {
    /// Grows whenever a topic comes, goes, or gets partitions.
    fn version(&self) -> i64;
    fn find(&self, name: &str) -> Option<TopicShape>;
    fn names(&self) -> Vec<&str>;
    /// `None`: there is no such topic any more.
    fn name_of(&self, id: TopicId) -> Option<&str>;

    /// The most that one batch of the groups' own log may have, in bytes.
    fn batch_bytes(&self) -> usize {
        usize::MAX
    }

    /// What holds for a group: what is set of it, and otherwise what holds for all.
    fn settings_of(&self, _group: &str, of_all: Settings) -> Settings {
        of_all
    }
}

/// The expression as it is applied: to whole names.
///
/// # Errors
/// It isn't one, or it is too large.
pub fn compile(expression: &str) -> Result<Regex, regex::Error> {
    let expression = &unquote(expression);
    // By itself first: what only the brackets around it would make an expression is none.
    RegexBuilder::new(expression).size_limit(REGEX_BYTES).build()?;
    RegexBuilder::new(&format!("^(?:{expression})$"))
        .size_limit(REGEX_BYTES)
        .build()
}

/// `\Q` and `\E`, between which RE2 takes everything as it stands and Java's `Pattern.quote` puts what it quotes, as escapes.
fn unquote(expression: &str) -> String {
    let (mut plain, mut rest) = (String::new(), expression);
    while let Some((character, behind)) = split_first(rest) {
        rest = behind;
        match (character, split_first(rest)) {
            ('\\', Some(('Q', quoted))) => {
                let (literal, behind) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                plain.push_str(&regex::escape(literal));
                rest = behind;
            }
            // What is escaped stays so, a backslash before a Q too.
            ('\\', Some((escaped, behind))) => {
                plain.extend(['\\', escaped]);
                rest = behind;
            }
            _ => plain.push(character),
        }
    }
    plain
}

fn split_first(text: &str) -> Option<(char, &str)> {
    let mut characters = text.chars();
    let first = characters.next()?;
    Some((first, characters.as_str()))
}

fn resolve(expression: &str, topics: &dyn Topics, now: Now) -> ResolvedRegex {
    let matching = compile(expression).map_or_else(
        // Only one that an older version took for an expression: it stands for nothing.
        |_| BTreeSet::new(),
        |regex| {
            let names = topics.names().into_iter();
            names.filter(|name| regex.is_match(name)).map(str::to_owned).collect()
        },
    );
    ResolvedRegex {
        topics: matching,
        version: topics.version(),
        at_ms: now.wall_ms,
    }
}

/// Looks at the topics again where they or the members' wishes may have changed; says whether what is to be assigned has.
pub fn refresh(draft: &mut Draft, topics: &dyn Topics, now: Now) -> Option<i64> {
    let wanted: BTreeSet<String> = {
        let members = draft.members.values();
        members
            .filter_map(|member| regex_of(&member.subscription).cloned())
            .collect()
    };
    let unused: Vec<String> = draft
        .regexes
        .keys()
        .filter(|regex| !wanted.contains(*regex))
        .cloned()
        .collect();
    for regex in unused {
        draft.put(ConsumerRecord::Regex(regex, None));
    }
    let is_new_version = draft.topics_version != Some(topics.version());
    for regex in wanted {
        let known = draft.regexes.get(&regex);
        if known.is_some() && !is_new_version {
            continue;
        }
        let resolved = resolve(&regex, topics, now);
        if known.is_none_or(|known| known.topics != resolved.topics) {
            draft.put(ConsumerRecord::Regex(regex, Some(resolved)));
        }
    }
    draft.set_topics_version(topics.version());
    let hash = hash(&subscribed(draft), topics);
    (hash != draft.metadata_hash).then_some(hash)
}

fn regex_of(subscription: &Subscription) -> Option<&String> {
    subscription.regex.as_ref().filter(|regex| !regex.is_empty())
}

/// Names that a member wants, whether there are such topics or not.
pub fn names_of<'a>(state: &'a State, subscription: &'a Subscription) -> impl Iterator<Item = &'a str> {
    let resolved = regex_of(subscription).and_then(|regex| state.regexes.get(regex));
    let matching = resolved.into_iter().flat_map(|resolved| &resolved.topics);
    subscription.topics.iter().chain(matching).map(String::as_str)
}

/// Names that any member wants.
pub fn subscribed(state: &State) -> BTreeSet<&str> {
    let members = state.members.values();
    members
        .flat_map(|member| names_of(state, &member.subscription))
        .collect()
}

/// The topics among `names` that there are.
pub fn shapes(names: &BTreeSet<&str>, topics: &dyn Topics) -> BTreeMap<String, TopicShape> {
    let found = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), topics.find(name)?)));
    found.collect()
}

/// Differs where topics, their ids or their numbers of partitions do; 0: no topics. Only ever compared with itself.
fn hash(names: &BTreeSet<&str>, topics: &dyn Topics) -> i64 {
    // FNV-1a of 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let found = shapes(names, topics);
    for (name, shape) in &found {
        add(name.as_bytes());
        add(&[0]);
        add(shape.id.0.as_bytes());
        add(&shape.partitions.to_be_bytes());
    }
    match found.is_empty() {
        true => 0,
        false => hash.cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Java's `Pattern.quote` makes is taken as RE2 takes it: everything in it is itself.
    #[test]
    fn what_is_quoted_stands_for_itself() {
        for (expression, matching, other) in [
            (r"\Qa.b\E.*", "a.bc", "axbc"),
            (r"\Qa.b", "a.b", "axb"),
            (r"x\Q(\E|\Q{2}\E", "{2}", "x"),
            (r"\\Q.", r"\Qx", "x"),
            (r"te\.a", "te.a", "texa"),
        ] {
            let regex = compile(expression).unwrap();
            assert!(regex.is_match(matching) && !regex.is_match(other), "{expression}");
        }
    }
}
