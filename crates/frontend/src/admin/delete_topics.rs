//! DeleteTopics, by name or by id (docs/kafka.md rule 29).

use std::time::Duration;

use tailwater_kafka::messages::*;
use tailwater_kafka::{ErrorCode, Str, Uuid};
use tailwater_types::TopicId;

use crate::error_codes;
use crate::server::{Handlers, RequestContext};

/// From here on topics are named one by one, by name or by id.
const FIRST_ID_VERSION: i16 = 6;

pub(crate) async fn delete_topics(
    handlers: &Handlers,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = handlers.clock().now() + timeout;
    let asked: Vec<DeleteTopicState> = match context.version >= FIRST_ID_VERSION {
        true => request.topics,
        false => request
            .topic_names
            .into_iter()
            .map(|name| DeleteTopicState {
                name: Some(name),
                ..Default::default()
            })
            .collect(),
    };
    let mut responses = Vec::with_capacity(asked.len());
    for topic in asked {
        let deleted = handlers
            .clock()
            .timeout_at(deadline, delete(handlers, topic.clone()))
            .await;
        responses.push(deleted.unwrap_or_else(|_late| DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: ErrorCode::RequestTimedOut,
            error_message: None,
        }));
    }
    DeleteTopicsResponse {
        throttle_time_ms: 0,
        responses,
    }
}

async fn delete(handlers: &Handlers, asked: DeleteTopicState) -> DeletableTopicResult {
    let refused = |error_code, message: Option<&'static str>| DeletableTopicResult {
        name: asked.name.clone(),
        topic_id: asked.topic_id,
        error_code,
        error_message: message.map(Str::from_static),
    };
    let view = handlers.view().snapshot();
    let found = match (&asked.name, asked.topic_id != Uuid::nil()) {
        (Some(_), true) => {
            let message = "You may not specify both topic name and topic id.";
            return refused(ErrorCode::InvalidRequest, Some(message));
        }
        (None, false) => {
            return refused(
                ErrorCode::InvalidRequest,
                Some("Neither topic name nor id were specified."),
            );
        }
        (Some(name), false) => view.topic_named(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        (None, true) => view.topic(TopicId(asked.topic_id)).ok_or(ErrorCode::UnknownTopicId),
    };
    let topic = match found {
        Ok(topic) => topic,
        Err(error) => return refused(error, None),
    };
    let result = handlers.creator().delete(topic.info.id).await;
    DeletableTopicResult {
        name: Some((&*topic.name).into()),
        topic_id: topic.info.id.0,
        error_code: result.as_ref().err().map(error_codes::of_catalog).unwrap_or_default(),
        error_message: result.err().map(|error| error.to_string().into()),
    }
}
