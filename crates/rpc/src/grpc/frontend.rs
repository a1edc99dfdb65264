//! The port [`Frontend`] over gRPC, both sides of it: [`FrontendClient`], and [`frontend_routes`] for any implementation.
//!
//! Owns: deadlines, and that an answer says something of each partition that was asked for. Does not own: calling again (who
//! asks), nor the check of the caller's registration (the implementation).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tailwater_kafka::ErrorCode;
use tailwater_runtime::Runtime;
use tonic::Request;
use tonic::service::Routes;
use tonic::transport::Channel;

use super::convert::{error_codes, marker_errors, partition_errors};
use super::peer::{MAX_MESSAGE_BYTES, Peer};
use super::proto;
use super::proto::frontend_server::FrontendServer;
use super::serve::{Served, served};
use crate::Result;
use crate::frontend::{AddPartitions, Frontend, WriteMarkers};

/// For markers: longer than the 30 s that a leader tries to append one, so that it is the one to say why it couldn't.
const MARKERS_DEADLINE: Duration = Duration::from_secs(35);
/// For a change of a transaction: one write of the coordinator's log.
const ADD_DEADLINE: Duration = Duration::from_secs(10);

/// A frontend at the other end of a connection.
///
/// It may be made before the frontend is there: each call connects where it must. A call without an answer in time fails with
/// [`crate::Error::Unavailable`], its outcome unknown; so does one that can't connect, which certainly did nothing.
#[derive(Clone)]
pub struct FrontendClient {
    peer: Peer,
    /// In place of those above.
    deadline: Option<Duration>,
}

impl FrontendClient {
    /// A client of the frontend at `address`, which is HOST:PORT. To be made inside a tokio runtime.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for a text that isn't HOST:PORT.
    pub fn new(address: &str, runtime: &Runtime) -> Result<Self> {
        let peer = Peer::new("the frontend", address, runtime.clock.clone())?.warn_if_unresolved(runtime);
        Ok(Self { peer, deadline: None })
    }

    /// Another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    fn frontend(&self) -> proto::frontend_client::FrontendClient<Channel> {
        proto::frontend_client::FrontendClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Frontend for FrontendClient {
    async fn write_markers(&self, request: WriteMarkers) -> Result<Vec<Vec<ErrorCode>>> {
        let mut frontend = self.frontend();
        let asked: Vec<usize> = request.markers.iter().map(|marker| marker.partitions.len()).collect();
        let call = |request| async move { frontend.write_markers(request).await };
        let read = |answer| marker_errors(&answer, &asked);
        let deadline = self.deadline.unwrap_or(MARKERS_DEADLINE);
        self.peer
            .call(deadline, proto::WriteMarkersRequest::from(request), call, read)
            .await
    }

    async fn add_partitions(&self, request: AddPartitions) -> Result<Vec<ErrorCode>> {
        let mut frontend = self.frontend();
        let asked = request.partitions.len();
        let call = |request| async move { frontend.add_partitions(request).await };
        let read = |answer: proto::AddPartitionsAnswer| partition_errors(&answer.errors, asked);
        let deadline = self.deadline.unwrap_or(ADD_DEADLINE);
        self.peer
            .call(deadline, proto::AddPartitionsRequest::from(request), call, read)
            .await
    }
}

/// The services of a frontend, for [`super::serve()`].
pub fn frontend_routes(frontend: Arc<dyn Frontend>) -> Routes {
    Routes::new(FrontendServer::new(Service(frontend)).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

/// The service over any implementation of the port.
struct Service(Arc<dyn Frontend>);

#[async_trait]
impl proto::frontend_server::Frontend for Service {
    async fn write_markers(&self, request: Request<proto::WriteMarkersRequest>) -> Served<proto::WriteMarkersAnswer> {
        served(async {
            let request = request.into_inner().try_into()?;
            Ok(self.0.write_markers(request).await?.into())
        })
        .await
    }

    async fn add_partitions(
        &self,
        request: Request<proto::AddPartitionsRequest>,
    ) -> Served<proto::AddPartitionsAnswer> {
        served(async {
            let request = request.into_inner().try_into()?;
            let errors = error_codes(&self.0.add_partitions(request).await?);
            Ok(proto::AddPartitionsAnswer { errors })
        })
        .await
    }
}
