//! One client's connection: one task, from its acceptance to its end.
//!
//! Owns: the loop that reads, begins, drives and answers requests, without a hop to another task in between. Whatever
//! a client sends ends at worst this connection, with one log line. Does not own: the order rules (`pipeline`), frames
//! (`frame`), what a request does (`dispatch`).

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use tailwater_kafka::{ApiKey, CodecError, Frame, Reader, Request, RequestHeader};
use tailwater_runtime::clock::Instant;
use tailwater_runtime::{BytePermit, ByteSemaphore, CancellationToken};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::admission::Admission;
use super::api_versions;
use super::context::RequestContext;
use super::dispatch::Handlers;
use super::frame::{FrameError, FrameReader, Received};
use super::metrics::ServerMetrics;
use super::pipeline::{Answer, Begun, Finished, Pipeline, Work};
use super::quiet::Quiet;
use crate::config::ServerConfig;
use crate::listeners::ListenerName;

/// A connection that was found not to be idle is looked at again after so long, or later.
const IDLE_LOOK: Duration = Duration::from_millis(10);

/// What all connections share.
pub(super) struct Shared {
    pub config: ServerConfig,
    pub handlers: Arc<Handlers>,
    pub memory: ByteSemaphore,
    pub metrics: ServerMetrics,
    /// About what clients send.
    pub quiet: Quiet,
    /// About connections that can't be accepted, and about those that limits stand against.
    pub quiet_accepts: Quiet,
    pub quiet_limits: Quiet,
    pub admission: Admission,
    /// No new requests: those that have begun are answered, then connections close.
    pub stopping: CancellationToken,
    /// This node is fenced: nobody is answered any more.
    pub fenced: CancellationToken,
}

/// Why a connection is closed by this side.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("malformed request: {0}")]
    Malformed(#[from] CodecError),
    #[error("the answer can't be written: {0}")]
    Write(#[source] std::io::Error),
    #[error("the client took nothing of an answer's remaining {unsent_bytes} bytes for {after:?}")]
    Stalled { unsent_bytes: usize, after: Duration },
    /// The handler has said why, or the client isn't to be told.
    #[error("nothing can be answered")]
    NoAnswer,
}

impl Closed {
    /// Clients come and go: that a connection breaks off is nothing to tell.
    fn is_worth_a_line(&self) -> bool {
        !matches!(
            self,
            Self::Frame(FrameError::Io(_) | FrameError::Torn) | Self::Write(_) | Self::NoAnswer
        )
    }
}

/// A request whose header is known and that hasn't begun.
struct Waiting {
    header: RequestHeader,
    body: Reader,
    permit: BytePermit,
    backing_bytes: usize,
    received_at: Instant,
}

pub(super) struct Connection {
    shared: Arc<Shared>,
    listener: ListenerName,
    peer: SocketAddr,
    reader: FrameReader,
    pipeline: Pipeline,
    next: Option<Waiting>,
}

impl Connection {
    pub fn new(shared: Arc<Shared>, listener: ListenerName, peer: SocketAddr) -> Self {
        let config = &shared.config;
        let reader = FrameReader::new(
            config.max_request.as_usize(),
            shared.memory.clone(),
            shared.handlers.clock().clone(),
            config.stall_timeout.as_duration(),
        );
        let pipeline = Pipeline::new(config.max_pipelined_requests, config.max_pipelined_bytes.0);
        Self {
            shared,
            listener,
            peer,
            reader,
            pipeline,
            next: None,
        }
    }

    /// Serves the client until it goes, breaks a rule, or the server stops.
    pub async fn run(mut self, mut stream: TcpStream) {
        self.shared.metrics.connections.inc();
        let (mut read, mut write) = stream.split();
        let fenced = self.shared.fenced.clone();
        let ended = tokio::select! {
            biased;
            () = fenced.cancelled() => Ok(()),
            ended = self.serve(&mut read, &mut write) => ended,
        };
        self.shared.metrics.connections.dec();
        match ended {
            Ok(()) => {}
            Err(why) if why.is_worth_a_line() => {
                self.shared.metrics.refused_connections.inc();
                if let Some(left_out) = self.shared.quiet.admit() {
                    tracing::warn!(peer = %self.peer, reason = %why, left_out, "connection closed");
                }
            }
            Err(why @ Closed::Frame(FrameError::Torn)) => {
                if let Some(left_out) = self.shared.quiet.admit() {
                    tracing::info!(peer = %self.peer, reason = %why, left_out, "connection ended");
                }
            }
            Err(why) => tracing::debug!(peer = %self.peer, reason = %why, "connection ended"),
        }
    }

    async fn serve(&mut self, read: &mut ReadHalf<'_>, write: &mut WriteHalf<'_>) -> Result<(), Closed> {
        let stopping = self.shared.stopping.clone();
        let (clock, idle_timeout) = (
            self.shared.handlers.clock().clone(),
            self.shared.config.idle_timeout.as_duration(),
        );
        let mut is_open = true;
        let mut last_used = clock.now();
        // One timer a connection, not one a request: it looks again when it goes off too early.
        let mut idle = pin!(clock.sleep(idle_timeout));
        loop {
            self.begin_next()?;
            tokio::select! {
                biased;
                finished = self.pipeline.finished(), if !self.pipeline.is_empty() => {
                    last_used = answer(&self.shared, finished, write).await?;
                }
                () = stopping.cancelled(), if is_open => {
                    is_open = false;
                    self.next = None;
                }
                received = self.reader.next(read), if is_open && self.next.is_none() => {
                    match received? {
                        Some(received) => {
                            let waiting = self.decode_header(received)?;
                            last_used = waiting.received_at;
                            self.next = Some(waiting);
                        }
                        // A client that is gone doesn't wait for records to come.
                        None if self.pipeline.only_reads() => return Ok(()),
                        None => is_open = false,
                    }
                }
                () = &mut idle, if is_open && !idle_timeout.is_zero() => {
                    let unused = clock.now() - last_used;
                    if unused >= idle_timeout && self.is_idle() {
                        self.shared.metrics.idle_connections.inc();
                        tracing::debug!(peer = %self.peer, ?unused, "an idle connection is closed");
                        return Ok(());
                    }
                    let rest = idle_timeout.checked_sub(unused).unwrap_or(idle_timeout);
                    idle.set(clock.sleep(rest.max(IDLE_LOOK)));
                }
                else => return Ok(()),
            }
        }
    }

    /// Whether the client has nothing under way: one that waits for an answer isn't idle.
    fn is_idle(&self) -> bool {
        self.pipeline.is_empty() && self.next.is_none() && self.reader.is_idle()
    }

    fn decode_header(&self, received: Received) -> Result<Waiting, Closed> {
        self.shared.metrics.received_bytes.inc_by(received.bytes.len() as u64);
        let received_at = self.shared.handlers.clock().now();
        let Received {
            bytes,
            permit,
            backing_bytes,
        } = received;
        let mut body = Reader::new(bytes);
        let header = RequestHeader::decode(&mut body)?;
        Ok(Waiting {
            header,
            body,
            permit,
            backing_bytes,
            received_at,
        })
    }

    fn begin_next(&mut self) -> Result<(), Closed> {
        let Some(waiting) = self.next.take_if(|waiting| self.pipeline.admits(waiting.header.api)) else {
            return Ok(());
        };
        let Waiting {
            header,
            body,
            permit,
            backing_bytes,
            received_at,
        } = waiting;
        let api = header.api;
        let work = self.begin(header, body, backing_bytes)?;
        self.pipeline.push(Begun {
            api,
            at: received_at,
            work,
            permit,
        });
        Ok(())
    }

    fn begin(&self, header: RequestHeader, body: Reader, backing_bytes: usize) -> Result<Work, Closed> {
        let RequestHeader {
            api,
            version,
            correlation_id,
            client_id,
        } = header;
        if api == ApiKey::ApiVersions && !api.versions().contains(version) {
            let answer = api_versions::unsupported(correlation_id)?;
            return Ok(Work::Whole(Box::pin(std::future::ready(Answer::Frame(
                answer,
                Vec::new(),
            )))));
        }
        let request = Request::decode(api, version, body)?;
        let context = RequestContext {
            version,
            client_id,
            peer: self.peer,
            listener: self.listener.clone(),
        };
        Ok(self
            .shared
            .handlers
            .clone()
            .begin(context, correlation_id, request, backing_bytes))
    }
}

/// Answers when the answer had been written.
async fn answer(shared: &Shared, finished: Finished, write: &mut WriteHalf<'_>) -> Result<Instant, Closed> {
    let Finished {
        api,
        began_at,
        answer,
        permit,
    } = finished;
    match answer {
        Answer::Frame(frame, memory) => {
            shared.metrics.sent_bytes.inc_by(frame.remaining() as u64);
            write_whole(shared, frame, write).await?;
            drop(memory);
        }
        Answer::Nothing => {}
        Answer::Close => return Err(Closed::NoAnswer),
    }
    drop(permit);
    let now = shared.handlers.clock().now();
    shared.metrics.answered(api, now - began_at);
    Ok(now)
}

/// Writes until the client has stopped taking it for too long: others may be waiting for the memory that it takes.
async fn write_whole(shared: &Shared, mut frame: Frame, write: &mut WriteHalf<'_>) -> Result<(), Closed> {
    let (clock, after) = (shared.handlers.clock(), shared.config.stall_timeout.as_duration());
    while frame.has_remaining() {
        match clock.timeout(after, write.write_buf(&mut frame)).await {
            Ok(Ok(0)) => return Err(Closed::Write(ErrorKind::WriteZero.into())),
            Ok(Ok(_written)) => {}
            Ok(Err(error)) => return Err(Closed::Write(error)),
            Err(_elapsed) => {
                let unsent_bytes = frame.remaining();
                return Err(Closed::Stalled { unsent_bytes, after });
            }
        }
    }
    Ok(())
}
