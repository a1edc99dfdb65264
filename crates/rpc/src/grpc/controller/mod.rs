//! The controller's five ports over gRPC: the client that implements them all, and the services over any implementation.
//!
//! Owns: deadlines, and asking again where a call only reads. Does not own: repeating a call that changes something: the
//! tiers do that, under the same identity. A file a port, with both sides of it.

mod catalog;
mod journals;
mod nodes;
mod objects;
mod tasks;

use std::future::Future;
use std::time::Duration;

use tailwater_runtime::Runtime;
use tonic::service::Routes;

use super::peer::{MAX_MESSAGE_BYTES, Peer};
use super::proto;
use super::serve::{Served, served};
use crate::controller::Controller;
use crate::{Error, Result};

/// How long a call may take that doesn't wait for anything.
const DEADLINE: Duration = Duration::from_secs(5);

const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The controller at an address, as all five ports ([`Controller::of`]).
///
/// It may be made before the controller is there, and outlives its restarts: each call connects where it must. A call that
/// isn't answered in time fails with [`Error::Unavailable`], its outcome unknown; so does one that can't connect, its outcome
/// [`tailwater_types::Outcome::DidNotHappen`] then. Calls that only read are made again until their deadline.
pub struct ControllerClient {
    peer: Peer,
    deadline: Duration,
    runtime: Runtime,
}

impl ControllerClient {
    /// `address` is HOST:PORT, whose host may not resolve yet. To be made inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text of another form.
    pub fn new(address: &str, runtime: Runtime) -> Result<Self> {
        Ok(Self {
            peer: Peer::new("controller", address, runtime.clock.clone())?.warn_if_unresolved(&runtime),
            deadline: DEADLINE,
            runtime,
        })
    }

    /// Another deadline for each call; a call that waits for something has it on top.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// A call that changes nothing, made again while the controller can't be reached and the deadline allows it.
    async fn read<T, F: Future<Output = Result<T>>>(&self, mut call: impl FnMut(Duration) -> F) -> Result<T> {
        let clock = &self.runtime.clock;
        let mut retry = self.runtime.backoff(RETRY_FIRST, RETRY_MAX);
        let end = clock.now() + self.deadline;
        loop {
            let left = end.saturating_duration_since(clock.now());
            match call(left).await {
                Err(error @ Error::Unavailable { .. }) => {
                    if clock.timeout_at(end, retry.wait()).await.is_err() {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }
}

/// The services of a controller, for [`super::serve`].
pub fn controller_routes(controller: &Controller) -> Routes {
    let Controller {
        nodes,
        catalog,
        journals,
        objects,
        tasks,
    } = controller.clone();
    let nodes = proto::nodes_server::NodesServer::new(nodes::Service(nodes));
    let catalog = proto::catalog_server::CatalogServer::new(catalog::Service(catalog));
    let journals = proto::journals_server::JournalsServer::new(journals::Service(journals));
    let objects = proto::objects_server::ObjectsServer::new(objects::Service(objects));
    let tasks = proto::tasks_server::TasksServer::new(tasks::Service(tasks));
    Routes::new(nodes.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(catalog.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(journals.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(objects.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(tasks.max_decoding_message_size(MAX_MESSAGE_BYTES))
}
