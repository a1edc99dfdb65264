//! Who may commit and read the offsets of a group whose coordinator assigns, as Apache Kafka 4.3 checks it.
//!
//! Owns: members' epochs. An older one is let pass for partitions that the member has had since then (KIP-1251): the commit
//! was on its way when the epoch grew.

use tailwater_kafka::ErrorCode;
use tailwater_types::TopicId;

use super::state::{Assigned, State};

/// Who asks, in which epoch; -1: nobody in particular.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub member_id: &'a str,
    pub epoch: i32,
    /// Whether the request's version has epochs, and not generations.
    pub knows_epochs: bool,
}

impl State {
    /// # Errors
    /// The whole commit is refused.
    pub fn check_commit(
        &self,
        claim: Claim<'_>,
        mut partitions: impl Iterator<Item = (Option<TopicId>, i32)>,
    ) -> Result<(), ErrorCode> {
        if claim.epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(claim.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_classic = member.subscription.classic.is_some();
        if !is_classic && !claim.knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let stale = match is_classic {
            true => ErrorCode::IllegalGeneration,
            false => ErrorCode::StaleMemberEpoch,
        };
        let current = &member.current;
        let since = |of: &Assigned, topic: TopicId, partition: i32| {
            of.get(&topic)
                .and_then(|partitions| partitions.get(&partition))
                .copied()
        };
        let has_had = |(topic, partition): (Option<TopicId>, i32)| {
            let Some(topic) = topic else { return false };
            let had = since(&current.assigned, topic, partition).or(since(&current.revoking, topic, partition));
            had.is_some_and(|epoch| epoch <= claim.epoch)
        };
        match claim.epoch.cmp(&current.epoch) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less if claim.epoch > 0 && partitions.all(has_had) => Ok(()),
            _ => Err(stale),
        }
    }

    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self
            .members
            .get(member_id.unwrap_or_default())
            .ok_or(ErrorCode::UnknownMemberId)?;
        match (member.current.epoch == epoch, member.subscription.classic.is_some()) {
            (true, _) => Ok(()),
            (false, true) => Err(ErrorCode::IllegalGeneration),
            (false, false) => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}
