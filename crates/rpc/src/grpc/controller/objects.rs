//! The port `Objects`.

use std::sync::Arc;

use async_trait::async_trait;
use tailwater_types::{MetadataVersion, Offset, StreamId};
use tonic::Request;
use tonic::transport::Channel;

use super::{ControllerClient, MAX_MESSAGE_BYTES, Served, served};
use crate::Result;
use crate::controller::{Caller, CommitObjects, Objects, PrepareObjects, PreparedObject, StreamObjects, StreamUpload};
use crate::grpc::convert::{all, caller, into_all, number, offset};
use crate::grpc::proto;
use crate::grpc::proto::objects_client::ObjectsClient;
use crate::grpc::proto::objects_server;

impl ControllerClient {
    fn objects(&self) -> ObjectsClient<Channel> {
        ObjectsClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Objects for ControllerClient {
    async fn prepare_objects(&self, caller: Caller, request: PrepareObjects) -> Result<Vec<PreparedObject>> {
        let mut objects = self.objects();
        let message = proto::PrepareObjectsRequest {
            caller: Some(caller.into()),
            ..request.into()
        };
        let call = |request| async move { objects.prepare_objects(request).await };
        let read = |answer: proto::PrepareObjectsAnswer| Ok(into_all(answer.objects));
        self.peer.call(self.deadline, message, call, read).await
    }

    async fn commit_objects(&self, caller: Caller, request: CommitObjects) -> Result<MetadataVersion> {
        let mut objects = self.objects();
        let message = proto::CommitObjectsRequest {
            caller: Some(caller.into()),
            ..request.into()
        };
        let call = |request| async move { objects.commit_objects(request).await };
        let version = |answer: proto::CommitObjectsAnswer| Ok(MetadataVersion(answer.version));
        self.peer.call(self.deadline, message, call, version).await
    }

    async fn find_objects(&self, stream: StreamId, from: Offset, limit: usize) -> Result<StreamObjects> {
        let message = proto::FindObjectsRequest {
            stream: stream.0,
            from: from.0,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        self.read(|left| {
            let mut objects = self.objects();
            let call = |request| async move { objects.find_objects(request).await };
            self.peer.call(left, message, call, TryInto::try_into)
        })
        .await
    }

    async fn stream_uploads(&self, streams: Vec<StreamId>) -> Result<Vec<StreamUpload>> {
        let message = proto::StreamUploadsRequest {
            streams: streams.into_iter().map(|stream| stream.0).collect(),
        };
        self.read(|left| {
            let (mut objects, message) = (self.objects(), message.clone());
            let call = |request| async move { objects.stream_uploads(request).await };
            let read = |answer: proto::StreamUploadsAnswer| all(answer.streams);
            self.peer.call(left, message, call, read)
        })
        .await
    }
}

/// The service over any implementation of the port.
pub(super) struct Service(pub Arc<dyn Objects>);

#[async_trait]
impl objects_server::Objects for Service {
    async fn prepare_objects(
        &self,
        request: Request<proto::PrepareObjectsRequest>,
    ) -> Served<proto::PrepareObjectsAnswer> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            let objects = self.0.prepare_objects(caller, request.try_into()?).await?;
            Ok(proto::PrepareObjectsAnswer {
                objects: into_all(objects),
            })
        })
        .await
    }

    async fn commit_objects(
        &self,
        request: Request<proto::CommitObjectsRequest>,
    ) -> Served<proto::CommitObjectsAnswer> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            let version = self.0.commit_objects(caller, request.try_into()?).await?;
            Ok(proto::CommitObjectsAnswer { version: version.0 })
        })
        .await
    }

    async fn find_objects(&self, request: Request<proto::FindObjectsRequest>) -> Served<proto::StreamObjects> {
        served(async {
            let request = request.into_inner();
            let from = offset(request.from, "from")?;
            let limit = number(request.limit, "limit")?;
            Ok(self.0.find_objects(StreamId(request.stream), from, limit).await?.into())
        })
        .await
    }

    async fn stream_uploads(
        &self,
        request: Request<proto::StreamUploadsRequest>,
    ) -> Served<proto::StreamUploadsAnswer> {
        served(async {
            let streams = request.into_inner().streams.into_iter().map(StreamId).collect();
            let streams = into_all(self.0.stream_uploads(streams).await?);
            Ok(proto::StreamUploadsAnswer { streams })
        })
        .await
    }
}
