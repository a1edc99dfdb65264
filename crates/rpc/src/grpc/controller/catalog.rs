//! The port `Catalog`.

use std::sync::Arc;

use async_trait::async_trait;
use tailwater_types::{MetadataVersion, TopicId};
use tonic::Request;
use tonic::transport::Channel;

use super::{ControllerClient, MAX_MESSAGE_BYTES, Served, served};
use crate::Result;
use crate::controller::{
    AlterConfigs, Caller, Catalog, CreatePartitions, CreatedTopic, DeleteRecords, NewTopic, ProducerIds,
};
use crate::grpc::convert::{caller, id_bytes, topic_id};
use crate::grpc::proto;
use crate::grpc::proto::catalog_client::CatalogClient;
use crate::grpc::proto::catalog_server;

impl ControllerClient {
    fn catalog(&self) -> CatalogClient<Channel> {
        CatalogClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Catalog for ControllerClient {
    async fn create_topic(&self, caller: Caller, topic: NewTopic) -> Result<CreatedTopic> {
        let mut catalog = self.catalog();
        let message = proto::CreateTopicRequest {
            caller: Some(caller.into()),
            ..topic.into()
        };
        let call = |request| async move { catalog.create_topic(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }

    async fn delete_topic(&self, caller: Caller, topic: TopicId) -> Result<MetadataVersion> {
        let mut catalog = self.catalog();
        let message = proto::DeleteTopicRequest {
            caller: Some(caller.into()),
            topic: id_bytes(topic.to_bytes()),
        };
        let call = |request| async move { catalog.delete_topic(request).await };
        let version = |answer: proto::DeletedTopic| Ok(MetadataVersion(answer.version));
        self.peer.call(self.deadline, message, call, version).await
    }

    async fn alter_configs(&self, caller: Caller, request: AlterConfigs) -> Result<MetadataVersion> {
        let mut catalog = self.catalog();
        let message = proto::AlterConfigsRequest {
            caller: Some(caller.into()),
            ..request.into()
        };
        let call = |request| async move { catalog.alter_configs(request).await };
        let version = |answer: proto::AlterConfigsAnswer| Ok(MetadataVersion(answer.version));
        self.peer.call(self.deadline, message, call, version).await
    }

    async fn create_partitions(&self, caller: Caller, request: CreatePartitions) -> Result<MetadataVersion> {
        let mut catalog = self.catalog();
        let message = proto::CreatePartitionsRequest {
            caller: Some(caller.into()),
            ..request.into()
        };
        let call = |request| async move { catalog.create_partitions(request).await };
        let version = |answer: proto::CreatePartitionsAnswer| Ok(MetadataVersion(answer.version));
        self.peer.call(self.deadline, message, call, version).await
    }

    async fn delete_records(&self, caller: Caller, request: DeleteRecords) -> Result<MetadataVersion> {
        let mut catalog = self.catalog();
        let message = proto::DeleteRecordsRequest {
            caller: Some(caller.into()),
            ..request.into()
        };
        let call = |request| async move { catalog.delete_records(request).await };
        let version = |answer: proto::DeleteRecordsAnswer| Ok(MetadataVersion(answer.version));
        self.peer.call(self.deadline, message, call, version).await
    }

    async fn allocate_producer_ids(&self, caller: Caller) -> Result<ProducerIds> {
        let mut catalog = self.catalog();
        let message = proto::AllocateProducerIdsRequest {
            caller: Some(caller.into()),
        };
        let call = |request| async move { catalog.allocate_producer_ids(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }
}

/// The service over any implementation of the port.
pub(super) struct Service(pub Arc<dyn Catalog>);

#[async_trait]
impl catalog_server::Catalog for Service {
    async fn create_topic(&self, request: Request<proto::CreateTopicRequest>) -> Served<proto::CreatedTopic> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            Ok(self.0.create_topic(caller, request.into()).await?.into())
        })
        .await
    }

    async fn delete_topic(&self, request: Request<proto::DeleteTopicRequest>) -> Served<proto::DeletedTopic> {
        served(async {
            let request = request.into_inner();
            let topic = topic_id(&request.topic, "topic")?;
            let version = self.0.delete_topic(caller(request.caller)?, topic).await?;
            Ok(proto::DeletedTopic { version: version.0 })
        })
        .await
    }

    async fn alter_configs(&self, request: Request<proto::AlterConfigsRequest>) -> Served<proto::AlterConfigsAnswer> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            let version = self.0.alter_configs(caller, request.try_into()?).await?;
            Ok(proto::AlterConfigsAnswer { version: version.0 })
        })
        .await
    }

    async fn create_partitions(
        &self,
        request: Request<proto::CreatePartitionsRequest>,
    ) -> Served<proto::CreatePartitionsAnswer> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            let version = self.0.create_partitions(caller, request.try_into()?).await?;
            Ok(proto::CreatePartitionsAnswer { version: version.0 })
        })
        .await
    }

    async fn delete_records(
        &self,
        request: Request<proto::DeleteRecordsRequest>,
    ) -> Served<proto::DeleteRecordsAnswer> {
        served(async {
            let mut request = request.into_inner();
            let caller = caller(request.caller.take())?;
            let version = self.0.delete_records(caller, request.try_into()?).await?;
            Ok(proto::DeleteRecordsAnswer { version: version.0 })
        })
        .await
    }

    async fn allocate_producer_ids(
        &self,
        request: Request<proto::AllocateProducerIdsRequest>,
    ) -> Served<proto::ProducerIds> {
        served(async {
            let caller = caller(request.into_inner().caller)?;
            Ok(self.0.allocate_producer_ids(caller).await?.into())
        })
        .await
    }
}
