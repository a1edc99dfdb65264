//! A group's reply as the kind of reply that its question has.
//!
//! Owns: nothing but that. A machine answers each question with its own kind of reply, refusals too (`effects.rs`): another one
//! is broken state, and no answer for a client.

use tailwater_kafka::ErrorCode;

use super::consumer::heartbeat::HeartbeatReply;
use super::effects::{
    ConsumerDescription, DescribeError, FetchedTopic, GroupDescription, GroupSummary, JoinReply, LeaveReply, Reply,
    SyncReply,
};

macro_rules! kinds {
    ($($name:ident($kind:ident): $inner:ty),* $(,)?) => {
        impl Reply {
            $(
                /// # Panics
                /// This is the reply to another kind of question.
                pub fn $name(self) -> $inner {
                    match self {
                        Self::$kind(inner) => inner,
                        other => panic!("not the reply that was asked for: {other:?}"),
                    }
                }
            )*
        }
    };
}

kinds!(
    into_join(Join): JoinReply,
    into_sync(Sync): SyncReply,
    into_heartbeat(Heartbeat): ErrorCode,
    into_consumer_heartbeat(ConsumerHeartbeat): Box<HeartbeatReply>,
    into_leave(Leave): LeaveReply,
    into_commit(Commit): ErrorCode,
    into_ended(Ended): ErrorCode,
    into_fetched(FetchOffsets): Result<Vec<FetchedTopic>, ErrorCode>,
    into_described(Describe): Result<GroupDescription, DescribeError>,
    into_described_consumer(DescribeConsumer): Result<ConsumerDescription, DescribeError>,
    into_list(List): Result<Vec<GroupSummary>, ErrorCode>,
    into_deleted(Delete): ErrorCode,
    into_deleted_offsets(DeleteOffsets): Result<Vec<ErrorCode>, ErrorCode>,
);

#[cfg(test)]
mod tests {
    use super::super::effects::{MemberRef, Request};
    use super::*;

    /// A refusal is of its question's kind, also when it takes the place of an answer.
    #[test]
    fn refusals_are_of_their_questions_kind() {
        let member = MemberRef {
            member_id: "a".to_owned(),
            instance_id: None,
            generation: 1,
        };
        let error = ErrorCode::NotCoordinator;
        assert_eq!(Request::Heartbeat(member).refused(error).into_heartbeat(), error);
        assert_eq!(Request::Leave(Vec::new()).refused(error).into_leave().error, error);
        assert_eq!(
            Request::Delete
                .refused(error)
                .into_refusal(ErrorCode::None)
                .into_deleted(),
            ErrorCode::None
        );
        assert_eq!(
            Request::DeleteOffsets(Vec::new()).refused(error).into_deleted_offsets(),
            Err(error)
        );
        assert_eq!(Request::List.refused(error).into_list(), Err(error));
        let described = DescribeError::Code(error);
        assert_eq!(Request::Describe.refused(error).into_described(), Err(described));
        assert_eq!(
            Request::DescribeConsumer.refused(error).into_described_consumer(),
            Err(described)
        );
    }
}
