//! What a handler knows of a request beside its body.

use std::net::SocketAddr;

use tailwater_kafka::Str;

use crate::listeners::ListenerName;

/// Who asks, and in which version of the API.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub version: i16,
    pub client_id: Option<Str>,
    pub peer: SocketAddr,
    /// The listener that it came through: its clients are told addresses there.
    pub listener: ListenerName,
}

impl RequestContext {
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// The client's address as Kafka writes it down.
    pub fn client_host(&self) -> String {
        format!("/{}", self.peer.ip())
    }
}
