//! What administrators see of a group: its state, its members, and the line that stands for it in a list.
//!
//! Owns: what is shown in which state, as Apache Kafka 4.3 shows classic groups. Does not own: Kafka's words for a group
//! that isn't there (`wire_describe.rs`).

use super::effects::{GroupDescription, GroupSummary};
use super::state::{Group, Phase};

impl Phase {
    /// Kafka's name for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Group {
    /// What members say and have under the chosen protocol is settled, and so shown, in a stable group only.
    pub(super) fn describe(&self) -> GroupDescription {
        let is_stable = self.phase == Phase::Stable;
        let protocol = self.protocol_name.as_deref().filter(|_| is_stable);
        let mut members = self.member_metadata(protocol, &self.assignments());
        if !is_stable {
            members.iter_mut().for_each(|member| member.assignment.clear());
        }
        GroupDescription {
            state: self.phase.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.map(str::to_owned).unwrap_or_default(),
            members,
        }
    }

    pub(super) fn summary(&self) -> GroupSummary {
        GroupSummary {
            id: self.id.clone(),
            state: self.phase.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
        }
    }
}
