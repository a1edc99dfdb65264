//! The port `Nodes`. A large update goes out in several messages, which the client joins before it hands it on: an update is
//! one atomic step for whoever follows.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tailwater_types::{DeviceEpoch, DeviceId, Outcome};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::{ControllerClient, MAX_MESSAGE_BYTES, Peer, Served, served};
use crate::controller::{
    Caller, Heartbeat, HeartbeatAnswer, MetadataUpdate, NodeInfo, Nodes, RegisterNode, Registration,
};
use crate::grpc::convert::{self, all, caller, device_id, id_bytes, into_all};
use crate::grpc::error::to_status;
use crate::grpc::proto;
use crate::grpc::proto::nodes_client::NodesClient;
use crate::grpc::proto::nodes_server;
use crate::{Error, Result, Stream};

/// A message of an update is full at this size; one change may exceed it.
const PART_BYTES: usize = 1 << 20;

impl ControllerClient {
    fn nodes(&self) -> NodesClient<Channel> {
        NodesClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Nodes for ControllerClient {
    async fn register(&self, request: RegisterNode) -> Result<Registration> {
        let (mut nodes, message) = (self.nodes(), proto::RegisterRequest::from(request));
        let call = |request| async move { nodes.register(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }

    async fn confirm_device(&self, caller: Caller, device: DeviceId, epoch: DeviceEpoch) -> Result<()> {
        let mut nodes = self.nodes();
        let message = proto::ConfirmDeviceRequest {
            caller: Some(caller.into()),
            device: id_bytes(device.to_bytes()),
            epoch: epoch.0,
        };
        let call = |request| async move { nodes.confirm_device(request).await };
        self.peer.call(self.deadline, message, call, |_| Ok(())).await
    }

    async fn heartbeat(&self, caller: Caller, request: Heartbeat) -> Result<HeartbeatAnswer> {
        let mut nodes = self.nodes();
        let message = proto::HeartbeatRequest {
            caller: Some(caller.into()),
            controlled_shutdown: request.controlled_shutdown,
        };
        let call = |request| async move { nodes.heartbeat(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }

    async fn watch(&self, caller: Caller) -> Result<Stream<Arc<MetadataUpdate>>> {
        let mut nodes = self.nodes();
        let message = proto::WatchRequest {
            caller: Some(caller.into()),
        };
        let call = |request| async move { nodes.watch(request).await };
        let messages = self.peer.stream(self.deadline, message, call).await?;
        Ok(joined(messages, self.peer.clone()))
    }

    async fn watch_nodes(&self) -> Result<Stream<Vec<NodeInfo>>> {
        let (mut nodes, peer) = (self.nodes(), self.peer.clone());
        let call = |request| async move { nodes.watch_nodes(request).await };
        let lists = self
            .peer
            .stream(self.deadline, proto::WatchNodesRequest {}, call)
            .await?;
        let nodes = move |list: proto::NodeList| all(list.nodes).map_err(|error| peer.ill_formed(&error));
        Ok(lists.map(move |list| list.and_then(&nodes)).boxed())
    }
}

/// Whole updates out of their messages.
fn joined(messages: Stream<proto::MetadataUpdate>, peer: Peer) -> Stream<Arc<MetadataUpdate>> {
    let next = move |mut messages: Stream<proto::MetadataUpdate>| {
        let peer = peer.clone();
        async move {
            let update = next_update(&mut messages, &peer).await?;
            Ok(update.map(|update| (Arc::new(update), messages)))
        }
    };
    stream::try_unfold(messages, next).boxed()
}

/// `None` at the end of the stream, if that is between updates.
async fn next_update(messages: &mut Stream<proto::MetadataUpdate>, peer: &Peer) -> Result<Option<MetadataUpdate>> {
    let Some(first) = messages.try_next().await? else {
        return Ok(None);
    };
    let (version, previous) = convert::versions(&first);
    let mut more = first.more;
    let mut changes = convert::known_changes(first.changes).map_err(|error| peer.ill_formed(&error))?;
    while more {
        let part = messages.try_next().await?.ok_or_else(|| Error::Unavailable {
            detail: "the metadata ended within an update: the watcher has to start again".to_owned(),
            outcome: Outcome::DidNotHappen,
        })?;
        if convert::versions(&part) != (version, previous) {
            let error = Error::Invalid("a part of an update has another version than the part before it".to_owned());
            return Err(peer.ill_formed(&error));
        }
        more = part.more;
        let part = convert::known_changes(part.changes).map_err(|error| peer.ill_formed(&error))?;
        changes.extend(part);
    }
    Ok(Some(MetadataUpdate {
        version,
        previous,
        changes,
    }))
}

/// The messages that an update goes out in, made as they are wanted.
struct Parts {
    update: Arc<MetadataUpdate>,
    /// Changes that are in messages already; `None` once all are.
    sent: Option<usize>,
}

impl Parts {
    fn of(update: Arc<MetadataUpdate>) -> Self {
        Self { update, sent: Some(0) }
    }
}

impl Iterator for Parts {
    type Item = proto::MetadataUpdate;

    fn next(&mut self) -> Option<Self::Item> {
        let sent = self.sent?;
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for change in &self.update.changes[sent..] {
            let change = proto::MetadataChange::from(change.clone());
            bytes += change.encoded_len();
            changes.push(change);
            if bytes >= PART_BYTES {
                break;
            }
        }
        let sent = sent + changes.len();
        let more = sent < self.update.changes.len();
        self.sent = more.then_some(sent);
        Some(proto::MetadataUpdate {
            version: self.update.version.0,
            previous: self.update.previous.map(|version| version.0),
            changes,
            more,
        })
    }
}

/// The service over any implementation of the port.
pub(super) struct Service(pub Arc<dyn Nodes>);

#[async_trait]
impl nodes_server::Nodes for Service {
    type WatchStream = stream::BoxStream<'static, std::result::Result<proto::MetadataUpdate, Status>>;
    type WatchNodesStream = stream::BoxStream<'static, std::result::Result<proto::NodeList, Status>>;

    async fn register(&self, request: Request<proto::RegisterRequest>) -> Served<proto::Registration> {
        served(async {
            let request = RegisterNode::try_from(request.into_inner())?;
            Ok(self.0.register(request).await?.into())
        })
        .await
    }

    async fn confirm_device(
        &self,
        request: Request<proto::ConfirmDeviceRequest>,
    ) -> Served<proto::ConfirmDeviceAnswer> {
        served(async {
            let request = request.into_inner();
            let device = device_id(&request.device, "device")?;
            let (caller, epoch) = (caller(request.caller)?, DeviceEpoch(request.epoch));
            self.0.confirm_device(caller, device, epoch).await?;
            Ok(proto::ConfirmDeviceAnswer {})
        })
        .await
    }

    async fn heartbeat(&self, request: Request<proto::HeartbeatRequest>) -> Served<proto::HeartbeatAnswer> {
        served(async {
            let request = request.into_inner();
            let heartbeat = Heartbeat {
                controlled_shutdown: request.controlled_shutdown,
            };
            Ok(self.0.heartbeat(caller(request.caller)?, heartbeat).await?.into())
        })
        .await
    }

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Served<Self::WatchStream> {
        served(async {
            let updates = self.0.watch(caller(request.into_inner().caller)?).await?;
            let parts = updates.map(|update| match update {
                Ok(update) => stream::iter(Parts::of(update).map(Ok)).left_stream(),
                Err(error) => stream::iter([Err(to_status(&error))]).right_stream(),
            });
            Ok(parts.flatten().boxed())
        })
        .await
    }

    async fn watch_nodes(&self, _: Request<proto::WatchNodesRequest>) -> Served<Self::WatchNodesStream> {
        served(async {
            let lists = self.0.watch_nodes().await?;
            let lists = lists.map_ok(|nodes| proto::NodeList { nodes: into_all(nodes) });
            Ok(lists.map_err(|error| to_status(&error)).boxed())
        })
        .await
    }
}
