//! The port `Journals`.

use std::sync::Arc;

use async_trait::async_trait;
use tailwater_types::JournalId;
use tonic::Request;
use tonic::transport::Channel;

use super::{ControllerClient, MAX_MESSAGE_BYTES, Served, served};
use crate::Result;
use crate::controller::{Caller, CloseStream, JournalGrant, JournalInfo, Journals, OpenStream, OpenedStream};
use crate::grpc::convert::{all, caller, closed_streams, into_all, opened_streams};
use crate::grpc::proto;
use crate::grpc::proto::journals_client::JournalsClient;
use crate::grpc::proto::journals_server;

impl ControllerClient {
    fn journals(&self) -> JournalsClient<Channel> {
        JournalsClient::new(self.peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Journals for ControllerClient {
    async fn create_journal(&self, caller: Caller, confirms: bool) -> Result<JournalGrant> {
        let mut journals = self.journals();
        let message = proto::CreateJournalRequest {
            caller: Some(caller.into()),
            confirms,
        };
        let call = |request| async move { journals.create_journal(request).await };
        self.peer.call(self.deadline, message, call, TryInto::try_into).await
    }

    async fn confirm_journal(&self, caller: Caller, journal: JournalId) -> Result<()> {
        let mut journals = self.journals();
        let message = proto::ConfirmJournalRequest {
            caller: Some(caller.into()),
            journal: journal.0,
        };
        let call = |request| async move { journals.confirm_journal(request).await };
        let read = |proto::ConfirmJournalAnswer {}| Ok(());
        self.peer.call(self.deadline, message, call, read).await
    }

    async fn open_streams(&self, caller: Caller, streams: Vec<OpenStream>) -> Result<Vec<Result<OpenedStream>>> {
        let asked = streams.len();
        let message = proto::OpenStreamsRequest {
            caller: Some(caller.into()),
            streams: into_all(streams),
        };
        self.read(|left| {
            let (mut journals, message) = (self.journals(), message.clone());
            let call = |request| async move { journals.open_streams(request).await };
            self.peer
                .call(left, message, call, move |answer| opened_streams(answer, asked))
        })
        .await
    }

    async fn close_streams(&self, caller: Caller, streams: Vec<CloseStream>) -> Result<Vec<Result<()>>> {
        let asked = streams.len();
        let mut journals = self.journals();
        let message = proto::CloseStreamsRequest {
            caller: Some(caller.into()),
            streams: into_all(streams),
        };
        let call = |request| async move { journals.close_streams(request).await };
        let read = |answer| closed_streams(answer, asked);
        self.peer.call(self.deadline, message, call, read).await
    }

    async fn list_journals(&self) -> Result<Vec<JournalInfo>> {
        self.read(|left| {
            let mut journals = self.journals();
            let call = |request| async move { journals.list_journals(request).await };
            let read = |answer: proto::ListJournalsAnswer| all(answer.journals);
            self.peer.call(left, proto::ListJournalsRequest {}, call, read)
        })
        .await
    }
}

/// The service over any implementation of the port.
pub(super) struct Service(pub Arc<dyn Journals>);

#[async_trait]
impl journals_server::Journals for Service {
    async fn create_journal(&self, request: Request<proto::CreateJournalRequest>) -> Served<proto::JournalGrant> {
        served(async {
            let request = request.into_inner();
            let caller = caller(request.caller)?;
            Ok(self.0.create_journal(caller, request.confirms).await?.into())
        })
        .await
    }

    async fn confirm_journal(
        &self,
        request: Request<proto::ConfirmJournalRequest>,
    ) -> Served<proto::ConfirmJournalAnswer> {
        served(async {
            let request = request.into_inner();
            let caller = caller(request.caller)?;
            self.0.confirm_journal(caller, JournalId(request.journal)).await?;
            Ok(proto::ConfirmJournalAnswer {})
        })
        .await
    }

    async fn open_streams(&self, request: Request<proto::OpenStreamsRequest>) -> Served<proto::OpenStreamsAnswer> {
        served(async {
            let request = request.into_inner();
            let (caller, streams) = (caller(request.caller)?, all(request.streams)?);
            let streams = self.0.open_streams(caller, streams).await?;
            Ok(proto::OpenStreamsAnswer {
                streams: into_all(streams),
            })
        })
        .await
    }

    async fn close_streams(&self, request: Request<proto::CloseStreamsRequest>) -> Served<proto::CloseStreamsAnswer> {
        served(async {
            let request = request.into_inner();
            let (caller, streams) = (caller(request.caller)?, all(request.streams)?);
            let streams = self.0.close_streams(caller, streams).await?;
            Ok(proto::CloseStreamsAnswer {
                streams: into_all(streams),
            })
        })
        .await
    }

    async fn list_journals(&self, _: Request<proto::ListJournalsRequest>) -> Served<proto::ListJournalsAnswer> {
        served(async {
            let journals = into_all(self.0.list_journals().await?);
            Ok(proto::ListJournalsAnswer { journals })
        })
        .await
    }
}
