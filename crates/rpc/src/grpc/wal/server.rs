//! The port's routes, for any implementation of it.
//!
//! Owns: what is checked before an entry reaches the port (that it is one, and whole), and how answers leave: the newest
//! state only, record bytes as they lie. Nothing waits but the request itself, which the connection drops when the
//! caller has gone: then the writer is detached.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::TryReadyChunksError;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tailwater_types::Lsn;
use tailwater_types::Outcome;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codec::{Codec, Streaming};
use tonic::codegen::Service;
use tonic::codegen::http;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::super::error::to_status;
use super::super::proto;
use super::super::proto::append_request::Request;
use super::Answered;
use super::body::{Runs, framed, framed_together, response};
use super::pieces::{Assembly, Carrier, MAX_PIECE_MESSAGE_BYTES, batch_runs, runs};
use crate::wal::{AppendSender, AppendState, AppendStream, Wal};
use crate::{Error, Result};

pub(super) const OPEN_JOURNAL: &str = "/tailwater.v1.Wal/OpenJournal";
const READ_JOURNAL: &str = "/tailwater.v1.Wal/ReadJournal";
const SCAN_JOURNAL: &str = "/tailwater.v1.Wal/ScanJournal";
const READ_STREAM: &str = "/tailwater.v1.Wal/ReadStream";
const SEAL: &str = "/tailwater.v1.Wal/Seal";
const TRIM: &str = "/tailwater.v1.Wal/Trim";
const STATUS: &str = "/tailwater.v1.Wal/Status";

/// Scanned entries that leave as one run.
const SCANNED_AT_ONCE: usize = 64;

/// Serves a WAL node's port: one service among a server's.
#[derive(Clone)]
pub struct WalRoutes {
    wal: Arc<dyn Wal>,
}

impl WalRoutes {
    pub fn new(wal: Arc<dyn Wal>) -> Self {
        Self { wal }
    }
}

impl NamedService for WalRoutes {
    const NAME: &'static str = "tailwater.v1.Wal";
}

impl Service<http::Request<Body>> for WalRoutes {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wal = self.wal.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let answer = answer(&*wal, &path, request.into_body()).await;
            Ok(answer.map_or_else(Status::into_http, response))
        })
    }
}

/// The runs that answer a request, or the status that does.
async fn answer(wal: &dyn Wal, path: &str, body: Body) -> Answered<Runs> {
    match path {
        OPEN_JOURNAL => append(wal, requests(body)).await,
        READ_JOURNAL => {
            let read = only::<proto::ReadJournalRequest>(body).await?.try_into();
            let entries = async { wal.read_journal(read?).await }.await.map_err(refused)?;
            let runs = entries.map_ok(|entry| stream::iter(runs(&entry, Carrier::JournalEntry)).map(Ok));
            Ok(runs.map_err(refused).try_flatten().boxed())
        }
        SCAN_JOURNAL => {
            let read = only::<proto::ReadJournalRequest>(body).await?.try_into();
            let entries = async { wal.scan_journal(read?).await }.await.map_err(refused)?;
            // A frame of HTTP/2 for each of very many small messages would cost more than all else.
            let messages = entries
                .map_ok(proto::ScannedEntry::from)
                .try_ready_chunks(SCANNED_AT_ONCE);
            Ok(messages.flat_map(scanned_run).boxed())
        }
        READ_STREAM => {
            let read = only::<proto::ReadStreamRequest>(body).await?.try_into();
            let batches = async { wal.read_stream(read?).await }.await.map_err(refused)?;
            Ok(stream::iter(batch_runs(&batches)).map(Ok).boxed())
        }
        SEAL => {
            let seal = only::<proto::SealRequest>(body).await?.try_into();
            let sealed = async { wal.seal(seal?).await }.await.map_err(refused)?;
            Ok(one(&proto::SealAnswer::from(sealed)))
        }
        TRIM => {
            let trim = only::<proto::TrimRequest>(body).await?.try_into();
            async { wal.trim(trim?).await }.await.map_err(refused)?;
            Ok(one(&proto::TrimAnswer {}))
        }
        STATUS => {
            only::<proto::StatusRequest>(body).await?;
            let status = wal.status().await.map_err(refused)?;
            Ok(one(&proto::StatusAnswer::from(status)))
        }
        other => Err(Status::unimplemented(other)),
    }
}

/// Opens the journal that the first request names; then carries appends in and the newest state out.
async fn append(wal: &dyn Wal, mut requests: Streaming<proto::AppendRequest>) -> Answered<Runs> {
    let Some(Request::Open(open)) = requests.message().await?.and_then(|first| first.request) else {
        return Err(invalid("an append stream begins with an opening"));
    };
    let open = async { wal.open_journal(open.try_into()?).await };
    let AppendStream { next, sender, state } = open.await.map_err(refused)?;
    let max_entry_bytes = sender.max_entry_bytes();
    let mut attached = Attached {
        requests,
        assembly: Assembly::new(max_entry_bytes),
        sender,
        state,
        told: (Lsn(0), 0),
    };
    let seen = attached.state.borrow_and_update().clone();
    let first = attached.tell(&seen, Some((next, max_entry_bytes)));
    // A failure that has already been seen is told behind the first answer.
    attached.state.mark_changed();
    let later = stream::try_unfold(attached, |mut attached| async move {
        Ok(attached.next().await?.map(|run| (run, attached)))
    });
    Ok(stream::iter([Ok(first)]).chain(later).boxed())
}

/// A writer at the other end.
struct Attached {
    requests: Streaming<proto::AppendRequest>,
    assembly: Assembly,
    sender: Box<dyn AppendSender>,
    state: watch::Receiver<AppendState>,
    /// The durable end and the credit limit that the writer was told last.
    told: (Lsn, u64),
}

impl Attached {
    /// The next answer, once there is one; until then appends are taken. `None` when the writer has gone.
    async fn next(&mut self) -> Answered<Option<Bytes>> {
        loop {
            tokio::select! {
                biased;
                changed = self.state.changed() => {
                    if changed.is_err() {
                        return Err(refused(detached()));
                    }
                    let seen = self.state.borrow_and_update().clone();
                    if self.told != (seen.durable, seen.credit_limit) {
                        if seen.failed.is_some() {
                            self.state.mark_changed();
                        }
                        return Ok(Some(self.tell(&seen, None)));
                    }
                    if let Some(error) = seen.failed {
                        return Err(refused(error));
                    }
                }
                request = self.requests.message() => {
                    let Some(request) = request? else { return Ok(None) };
                    let Some(Request::Append(append)) = request.request else {
                        return Err(invalid("only appends follow an opening"));
                    };
                    self.take(append).map_err(refused)?;
                }
            }
        }
    }

    fn take(&mut self, append: proto::Append) -> Result<()> {
        match self.assembly.push(append.entry, append.last)? {
            Some(entry) => self.sender.send(entry, Lsn(append.commit)),
            None => Ok(()),
        }
    }

    fn tell(&mut self, seen: &AppendState, first: Option<(Lsn, usize)>) -> Bytes {
        self.told = (seen.durable, seen.credit_limit);
        framed(&proto::AppendState {
            next: first.map(|(next, _)| next.0),
            durable: seen.durable.0,
            credit_limit: seen.credit_limit,
            max_entry_bytes: first.map(|(_, max_entry_bytes)| max_entry_bytes as u64),
        })
    }
}

/// The messages of a request.
fn requests<T: Message + Default + 'static>(body: Body) -> Streaming<T> {
    let decoder = ProstCodec::<T, T>::default().decoder();
    Streaming::new_request(decoder, body, None, Some(MAX_PIECE_MESSAGE_BYTES))
}

/// The one message of a request.
async fn only<T: Message + Default + 'static>(body: Body) -> Answered<T> {
    let message = requests(body).message().await?;
    message.ok_or_else(|| invalid("a request without its message"))
}

/// The messages that were ready, and what came behind them if that is an error.
fn scanned_run(
    ready: std::result::Result<Vec<proto::ScannedEntry>, TryReadyChunksError<proto::ScannedEntry, Error>>,
) -> impl futures::Stream<Item = Answered<Bytes>> {
    let (messages, failed) = match ready {
        Ok(messages) => (messages, None),
        Err(TryReadyChunksError(messages, error)) => (messages, Some(error)),
    };
    let run = (!messages.is_empty()).then(|| Ok(framed_together(&messages)));
    stream::iter(run.into_iter().chain(failed.map(|error| Err(refused(error)))))
}

fn one(message: &impl Message) -> Runs {
    stream::iter([Ok(framed(message))]).boxed()
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: Error) -> Status {
    to_status(&error)
}

fn invalid(detail: &str) -> Status {
    Status::new(Code::InvalidArgument, detail)
}

fn detached() -> Error {
    Error::Unavailable {
        detail: "the writer was detached".to_owned(),
        outcome: Outcome::Unknown,
    }
}
