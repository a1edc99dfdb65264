//! The other end of a connection: how it is reached, how long a call to it may take, and what its name is in errors.
//!
//! Owns: the channel's settings, deadlines, and the way from an answer that makes no sense to an error. A peer needs not be
//! there, nor its name resolve: each call that finds no connection makes one, or fails with an error that names the address.
//! Does not own: calling again (the tiers; for reads [`super::ControllerClient`]).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tailwater_runtime::{Clock, Policy, Runtime};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::error::{from_status, timed_out};
use crate::{Error, Result, Stream};

/// The largest message that either side takes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// What a sender may have under way before the receiver has read it: of one stream, and of a connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Both sides ask so often whether the other is still there, and take it for gone without an answer in time.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Headers of one message; an error's details are in them.
pub(crate) const MAX_HEADER_BYTES: u32 = 64 << 10;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One process that is called; clones share the connection.
#[derive(Clone)]
pub(crate) struct Peer {
    name: Arc<str>,
    address: Arc<str>,
    channel: Channel,
    clock: Clock,
}

impl Peer {
    /// `what` (a tier, in words) at `address`, which is HOST:PORT. Nothing is connected yet. To be made inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that isn't HOST:PORT.
    pub fn new(what: &str, address: &str, clock: Clock) -> Result<Self> {
        let endpoint = endpoint(address).ok_or_else(|| Error::Invalid(format!("{address:?} is not HOST:PORT")))?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .connect_lazy();
        Ok(Self {
            name: format!("{what} at {address}").into(),
            address: address.into(),
            channel,
            clock,
        })
    }

    /// Says once, in the background, that the host's name doesn't resolve, if so: a wrong name is soon found then, and one that
    /// is merely early is no failure.
    pub fn warn_if_unresolved(self, runtime: &Runtime) -> Self {
        let (address, name) = (self.address.clone(), self.name.clone());
        runtime.tasks.spawn("resolve", Policy::LOGGED_ABORT, async move {
            if let Err(error) = tokio::net::lookup_host(&*address).await {
                tracing::warn!(
                    peer = &*name,
                    %error,
                    "the name doesn't resolve yet: it is looked up again for each attempt to connect"
                );
            }
        });
        self
    }

    /// Whom and where, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// What a call ended with.
    pub fn error(&self, status: &Status) -> Error {
        from_status(status, &self.name)
    }

    /// One call and its one answer, both within `deadline`; the peer is told of it, and gives up too.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after the deadline, [`Error::Internal`] for an answer that is ill-formed: the outcome of both is
    /// unknown. Else what the peer says.
    pub async fn call<Q, A, T, F>(
        &self,
        deadline: Duration,
        message: Q,
        call: impl FnOnce(Request<Q>) -> F,
        read: impl FnOnce(A) -> Result<T>,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<A>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let answer = self.clock.timeout(deadline, call(request)).await;
        let answer = answer.map_err(|_| timed_out(&self.name))?;
        let answer = answer.map_err(|status| self.error(&status))?;
        read(answer.into_inner()).map_err(|error| self.ill_formed(&error))
    }

    /// A call that answers with a stream, which begins within `deadline` and then lasts as long as it is wanted. Dropping it ends
    /// the other side's.
    ///
    /// # Errors
    /// As [`Peer::call`], also within the stream.
    pub async fn stream<Q, A, F>(
        &self,
        deadline: Duration,
        message: Q,
        call: impl FnOnce(Request<Q>) -> F,
    ) -> Result<Stream<A>>
    where
        F: Future<Output = std::result::Result<Response<Streaming<A>>, Status>>,
        A: Send + 'static,
    {
        let answer = self.clock.timeout(deadline, call(Request::new(message))).await;
        let answer = answer.map_err(|_| timed_out(&self.name))?;
        let messages = answer.map_err(|status| self.error(&status))?.into_inner();
        let peer = self.clone();
        Ok(messages.map_err(move |status| peer.error(&status)).boxed())
    }

    /// What an answer that can't be read is to the caller: what it asked for may have happened.
    pub fn ill_formed(&self, error: &Error) -> Error {
        Error::Internal(format!("{} answers what can't be read: {error}", self.name))
    }
}

fn endpoint(address: &str) -> Option<Endpoint> {
    let uri: Uri = format!("http://{address}").parse().ok()?;
    let authority = uri.authority()?;
    let whole = authority.as_str() == address && !authority.host().is_empty() && authority.port_u16()? != 0;
    whole.then(|| Endpoint::from(uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host, a port, and nothing else.
    #[test]
    fn addresses_are_host_and_port() {
        for good in ["controller:9000", "controller.ns.svc:1", "10.0.0.1:65535", "[::1]:9000"] {
            assert!(endpoint(good).is_some(), "{good}");
        }
        let bad = [
            "",
            ":9000",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:1/x",
            "http://host:1",
            "a b:1",
            "host:x",
        ];
        for bad in bad {
            assert!(endpoint(bad).is_none(), "{bad}");
        }
    }
}
