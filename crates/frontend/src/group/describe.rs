//! What administrators see of a group: its state, its members, and the line that stands for it in a list.
//!
//! Owns: what is shown in which state, as Apache Kafka 4.3 shows classic groups. Does not own: Kafka's words for a group
//! that isn't there (`wire_describe.rs`).

use super::delete::CONSUMER;
use super::effects::{DescribeError, GroupDescription, GroupSummary};
use super::state::{Group, Phase};

/// Kafka's name for groups whose members assign.
const CLASSIC: &str = "classic";

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
    ///
    /// # Errors
    /// The coordinator assigns.
    pub(super) fn describe(&self) -> Result<GroupDescription, DescribeError> {
        if self.consumer.is_some() {
            return Err(DescribeError::OtherType);
        }
        let is_stable = self.phase == Phase::Stable;
        let protocol = self.protocol_name.as_deref().filter(|_| is_stable);
        let mut members = self.member_metadata(protocol, &self.assignments());
        if !is_stable {
            members.iter_mut().for_each(|member| member.assignment.clear());
        }
        Ok(GroupDescription {
            state: self.phase.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.map(str::to_owned).unwrap_or_default(),
            members,
        })
    }

    pub(super) fn summary(&self) -> GroupSummary {
        let classic = || (self.phase.name(), self.protocol_type.clone().unwrap_or_default());
        let (state, protocol_type) = self.consumer_summary().unwrap_or_else(classic);
        GroupSummary {
            id: self.id.clone(),
            group_type: if self.consumer.is_some() { CONSUMER } else { CLASSIC },
            state,
            protocol_type,
        }
    }
}
