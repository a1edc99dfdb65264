//! FindCoordinator: which node answers for a group, or a transactional id.
//!
//! Owns: what is said of the coordinators there are none of.

use tailwater_kafka::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use tailwater_kafka::{ErrorCode, Str};

use super::brokers::{NO_BROKER, broker_id, endpoint};
use crate::listeners::ListenerName;
use crate::server::{Handlers, RequestContext};

/// From here on one request asks for several (KIP-699).
const FIRST_BATCHED_VERSION: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn find_coordinator(
    handlers: &Handlers,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let listener = &context.listener;
    if context.version >= FIRST_BATCHED_VERSION {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find(handlers, listener, request.key_type, key).await);
        }
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    let found = find(handlers, listener, request.key_type, request.key).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(handlers: &Handlers, listener: &ListenerName, key_type: i8, key: Str) -> Coordinator {
    let found = match key_type {
        GROUP => handlers.groups().coordinator_of(&key).await,
        TRANSACTION => handlers.transactions().coordinator_of(&key).await,
        _ => {
            return none(
                key,
                ErrorCode::InvalidRequest,
                "There are no coordinators of that type.",
            );
        }
    };
    let node = match found {
        Ok(node) => node,
        Err(error) => return none(key, error, "The coordinator is not available."),
    };
    match endpoint(&handlers.view().snapshot(), node, listener) {
        Some(address) => Coordinator {
            key,
            node_id: broker_id(node),
            host: address.host.as_str().into(),
            port: i32::from(address.port),
            error_code: ErrorCode::None,
            error_message: None,
        },
        None => none(
            key,
            ErrorCode::CoordinatorNotAvailable,
            "The coordinator is not available.",
        ),
    }
}

fn none(key: Str, error_code: ErrorCode, why: &'static str) -> Coordinator {
    Coordinator {
        key,
        node_id: NO_BROKER,
        host: Str::default(),
        port: -1,
        error_code,
        error_message: Some(Str::from_static(why)),
    }
}
