//! The port `Tasks`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tonic::Request;
use tonic::transport::Channel;

use super::{ControllerClient, MAX_MESSAGE_BYTES, Served, served};
use crate::Result;
use crate::controller::{Caller, Lease, LeaseRef, TaskKind, Tasks, Work};
use crate::grpc::convert::{caller, ms, required, task_kinds};
use crate::grpc::proto;
use crate::grpc::proto::tasks_client::TasksClient;
use crate::grpc::proto::tasks_server;

impl ControllerClient {
    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Tasks for ControllerClient {
    async fn lease(&self, caller: Caller, kinds: Vec<TaskKind>, wait: Duration) -> Result<Option<Lease>> {
        let mut tasks = self.tasks();
        let message = proto::LeaseRequest {
            caller: Some(caller.into()),
            kinds: kinds
                .into_iter()
                .map(|kind| proto::TaskKind::from(kind).into())
                .collect(),
            wait_ms: ms(wait),
        };
        let call = |request| async move { tasks.lease(request).await };
        let read = |answer: proto::LeaseAnswer| answer.lease.map(TryInto::try_into).transpose();
        self.peer
            .call(self.deadline.saturating_add(wait), message, call, read)
            .await
    }

    async fn renew(&self, caller: Caller, lease: LeaseRef) -> Result<Work> {
        let mut tasks = self.tasks();
        let message = proto::RenewRequest {
            caller: Some(caller.into()),
            lease: Some(lease.into()),
        };
        let call = |request| async move { tasks.renew(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }

    async fn release(&self, caller: Caller, lease: LeaseRef, done: bool) -> Result<()> {
        let mut tasks = self.tasks();
        let message = proto::ReleaseRequest {
            caller: Some(caller.into()),
            lease: Some(lease.into()),
            done,
        };
        let call = |request| async move { tasks.release(request).await };
        self.peer.call(self.deadline, message, call, |_| Ok(())).await
    }
}

/// The service over any implementation of the port.
pub(super) struct Service(pub Arc<dyn Tasks>);

#[async_trait]
impl tasks_server::Tasks for Service {
    async fn lease(&self, request: Request<proto::LeaseRequest>) -> Served<proto::LeaseAnswer> {
        served(async {
            let request = request.into_inner();
            let (caller, kinds) = (caller(request.caller)?, task_kinds(request.kinds)?);
            let wait = Duration::from_millis(request.wait_ms);
            let lease = self.0.lease(caller, kinds, wait).await?;
            Ok(proto::LeaseAnswer {
                lease: lease.map(Into::into),
            })
        })
        .await
    }

    async fn renew(&self, request: Request<proto::RenewRequest>) -> Served<proto::Work> {
        served(async {
            let request = request.into_inner();
            let lease = required(request.lease, "lease")?.into();
            Ok(self.0.renew(caller(request.caller)?, lease).await?.into())
        })
        .await
    }

    async fn release(&self, request: Request<proto::ReleaseRequest>) -> Served<proto::ReleaseAnswer> {
        served(async {
            let request = request.into_inner();
            let lease = required(request.lease, "lease")?.into();
            self.0.release(caller(request.caller)?, lease, request.done).await?;
            Ok(proto::ReleaseAnswer {})
        })
        .await
    }
}
