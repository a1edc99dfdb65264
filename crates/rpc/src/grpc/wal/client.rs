//! The port as a client of a WAL node has it.
//!
//! Owns: deadlines, and what a call that had no answer means. Does not own: when a call is repeated (the tiers).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tailwater_format::entry::Entry;
use tailwater_runtime::{Policy, Runtime};
use tailwater_types::{JournalId, Lsn};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codec::{Codec, Streaming};
use tonic::codegen::http::{self, HeaderValue};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::super::error::timed_out;
use super::super::peer::Peer;
use super::super::proto;
use super::super::proto::append_request::Request;
use super::append::{Outbox, Sender, follow};
use super::body::{framed, request};
use super::pieces::{Assembly, MAX_PIECE_MESSAGE_BYTES};
use super::server::OPEN_JOURNAL;
use super::{Answered, MAX_MESSAGE_BYTES};
use crate::wal::{
    AppendState, AppendStream, OpenJournal, ReadJournal, ReadStream, ScannedEntry, SealJournal, SealedJournal,
    TrimJournal, Wal, WalStatus,
};
use crate::{Error, Result, Stream};

/// For a call that is answered at once.
const DEADLINE: Duration = Duration::from_secs(5);
/// For an opening or a seal: it waits for everything that the node has taken before.
const FLUSH_DEADLINE: Duration = Duration::from_secs(10);
/// For an answer with records, and for each message of a stream of them.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// A WAL node at the other end of a connection.
#[derive(Clone)]
pub struct WalClient {
    peer: Peer,
    unary: proto::wal_client::WalClient<Channel>,
    runtime: Runtime,
}

impl WalClient {
    /// A client of the node at `address`, which is HOST:PORT; it connects when it is needed. To be made inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that isn't HOST:PORT.
    pub fn new(address: &str, runtime: Runtime) -> Result<Self> {
        let peer = Peer::new("the WAL node", address, runtime.clock.clone())?.warn_if_unresolved(&runtime);
        let unary = proto::wal_client::WalClient::new(peer.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { peer, unary, runtime })
    }

    /// Sends an opening, and answers with the stream of what comes back.
    async fn open(&self, body: Body) -> Answered<Streaming<proto::AppendState>> {
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static(OPEN_JOURNAL);
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut channel = self.peer.channel();
        poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context))
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let response = GrpcService::call(&mut channel, request)
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        if let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            return Err(status);
        }
        let code = response.status();
        let decoder = ProstCodec::<proto::AppendRequest, proto::AppendState>::default().decoder();
        Ok(Streaming::new_response(
            decoder,
            response.into_body(),
            code,
            None,
            Some(MAX_PIECE_MESSAGE_BYTES),
        ))
    }

    /// The next message of a stream.
    async fn next<T>(&self, answers: &mut Streaming<T>) -> Result<Option<T>> {
        match self.runtime.clock.timeout(READ_DEADLINE, answers.message()).await {
            Ok(message) => message.map_err(|status| self.peer.error(&status)),
            Err(_elapsed) => Err(timed_out(self.peer.name())),
        }
    }

    async fn next_entry(&self, reading: &mut Reading) -> Result<Option<Entry>> {
        while let Some(piece) = self.next(&mut reading.pieces).await? {
            let journal = reading.journal;
            let entry = reading.assembly.push(piece.entry, piece.last);
            let entry =
                entry.map_err(|error| Error::Corrupt(format!("journal {journal} at {}: {error}", self.peer.name())))?;
            if let Some(entry) = entry {
                let (found, lsn) = (entry.header().journal, entry.lsn());
                if (found, lsn) != (journal, reading.next) {
                    let (peer, next) = (self.peer.name(), reading.next);
                    return Err(Error::Corrupt(format!(
                        "{peer} answered LSN {lsn} of journal {found} for LSN {next} of journal {journal}"
                    )));
                }
                reading.next = lsn.next();
                return Ok(Some(entry));
            }
        }
        if reading.assembly.is_amid() {
            return Err(Error::Corrupt(format!("{} ended amid an entry", self.peer.name())));
        }
        Ok(None)
    }
}

/// A journal's entries as they arrive.
struct Reading {
    journal: JournalId,
    next: Lsn,
    pieces: Streaming<proto::JournalEntry>,
    assembly: Assembly,
}

/// `message` with a deadline that the node learns of too.
fn within<T>(deadline: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

#[async_trait]
impl Wal for WalClient {
    async fn open_journal(&self, open: OpenJournal) -> Result<AppendStream> {
        let outbox = Arc::new(Outbox::default());
        // From here on: dropped, it ends the request.
        let mut sender = Sender::new(outbox.clone(), open.journal);
        let opening = proto::AppendRequest {
            request: Some(Request::Open(open.into())),
        };
        let body = request(outbox.clone().runs(framed(&opening)));
        let opened = async {
            let mut answers = self.open(body).await?;
            let first = answers.message().await?;
            let first = first.ok_or_else(|| Status::unavailable("the append stream ended before it began"))?;
            Ok::<_, Status>((first, answers))
        };
        let opened = self.runtime.clock.timeout(FLUSH_DEADLINE, opened).await;
        let (first, answers) = opened
            .map_err(|_elapsed| timed_out(self.peer.name()))?
            .map_err(|status| self.peer.error(&status))?;
        let (Some(next), Some(max_entry_bytes)) = (first.next, first.max_entry_bytes) else {
            return Err(Error::Invalid(format!(
                "{} answered an opening without saying where to go on",
                self.peer.name()
            )));
        };
        sender.opened(
            usize::try_from(max_entry_bytes).unwrap_or(usize::MAX),
            first.credit_limit,
        );
        let (told, state) = watch::channel(AppendState {
            durable: Lsn(first.durable),
            credit_limit: first.credit_limit,
            failed: None,
        });
        let follow = follow(answers, told, outbox, self.peer.name().to_owned());
        self.runtime.tasks.spawn("append-answers", Policy::LOGGED_ABORT, follow);
        Ok(AppendStream {
            next: Lsn(next),
            sender: Box::new(sender),
            state,
        })
    }

    async fn read_journal(&self, read: ReadJournal) -> Result<Stream<Entry>> {
        let (journal, next) = (read.journal, read.range.start);
        let call = async {
            self.unary
                .clone()
                .read_journal(proto::ReadJournalRequest::from(read))
                .await
        };
        let answered = self.runtime.clock.timeout(READ_DEADLINE, call).await;
        let answered = answered.map_err(|_elapsed| timed_out(self.peer.name()))?;
        let reading = Reading {
            journal,
            next,
            pieces: answered.map_err(|status| self.peer.error(&status))?.into_inner(),
            assembly: Assembly::new(MAX_MESSAGE_BYTES),
        };
        let entries = stream::try_unfold((self.clone(), reading), |(client, mut reading)| async move {
            let entry = client.next_entry(&mut reading).await?;
            Ok(entry.map(|entry| (entry, (client, reading))))
        });
        Ok(entries.boxed())
    }

    async fn scan_journal(&self, read: ReadJournal) -> Result<Stream<ScannedEntry>> {
        let call = async {
            self.unary
                .clone()
                .scan_journal(proto::ReadJournalRequest::from(read))
                .await
        };
        let answered = self.runtime.clock.timeout(READ_DEADLINE, call).await;
        let answered = answered.map_err(|_elapsed| timed_out(self.peer.name()))?;
        let answers = answered.map_err(|status| self.peer.error(&status))?.into_inner();
        let scanned = stream::try_unfold((self.clone(), answers), |(client, mut answers)| async move {
            match client.next(&mut answers).await? {
                Some(entry) => Ok(Some((ScannedEntry::try_from(entry)?, (client, answers)))),
                None => Ok(None),
            }
        });
        Ok(scanned.boxed())
    }

    async fn read_stream(&self, read: ReadStream) -> Result<Vec<Bytes>> {
        let read = within(READ_DEADLINE, proto::ReadStreamRequest::from(read));
        let answer = self.unary.clone().read_stream(read).await;
        Ok(answer.map_err(|status| self.peer.error(&status))?.into_inner().batches)
    }

    async fn seal(&self, seal: SealJournal) -> Result<SealedJournal> {
        let seal = within(FLUSH_DEADLINE, proto::SealRequest::from(seal));
        let answer = self.unary.clone().seal(seal).await;
        Ok(answer.map_err(|status| self.peer.error(&status))?.into_inner().into())
    }

    async fn trim(&self, trim: TrimJournal) -> Result<()> {
        let trim = within(DEADLINE, proto::TrimRequest::from(trim));
        let answer = self.unary.clone().trim(trim).await;
        answer.map(drop).map_err(|status| self.peer.error(&status))
    }

    async fn status(&self) -> Result<WalStatus> {
        let status = within(DEADLINE, proto::StatusRequest {});
        let answer = self.unary.clone().status(status).await;
        answer
            .map_err(|status| self.peer.error(&status))?
            .into_inner()
            .try_into()
    }
}
