//! Which member of a group gets which partitions, where the coordinator decides it (KIP-848).
//!
//! Owns: what an assignor is given, and which there are. Pure; `uniform` and `range` are the two that Kafka has.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use tailwater_types::TopicId;

/// Partitions by topic.
type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// What is to be assigned to whom.
#[derive(Clone, Debug, Default)]
pub struct Spec<'a> {
    /// By member id.
    pub members: BTreeMap<&'a str, MemberSpec<'a>>,
    /// How many partitions each topic has; holds every topic that a member wants.
    pub topics: BTreeMap<TopicId, i32>,
}

#[derive(Clone, Debug, Default)]
pub struct MemberSpec<'a> {
    pub instance_id: Option<&'a str>,
    pub topics: BTreeSet<TopicId>,
    /// What it was to have until now.
    pub previous: Option<&'a Partitions>,
}

/// A way to assign. Every partition of a topic that somebody wants gets exactly one member, which wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// As many partitions for each as possible, and as few moves.
    Uniform,
    /// Neighbouring partitions, the same of each topic: for those who join topics by partition.
    Range,
}

impl Assignor {
    /// The first one is for groups whose members name none.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// By member id; a member that gets nothing has an empty entry.
    pub fn assign(self, spec: &Spec<'_>) -> BTreeMap<String, Partitions> {
        match self {
            Self::Uniform => uniform::assign(spec),
            Self::Range => range::assign(spec),
        }
    }
}
