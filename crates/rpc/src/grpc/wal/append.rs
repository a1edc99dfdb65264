//! The client's half of an append stream: a queue that the connection empties, and the answers that come back.
//!
//! Owns: what can be refused before it leaves (credit, size, another journal), and how an end is told. Keeps: `send`
//! doesn't wait, and what is queued is within the credit, so the queue is bounded in bytes, and in entries by what each
//! costs at least. Dropping the sender cancels the stream.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tailwater_format::entry::Entry;
use tailwater_types::{JournalId, Lsn, Outcome};
use tokio::sync::{Notify, watch};
use tonic::Streaming;

use super::super::error::from_status;
use super::super::proto;
use super::Answered;
use super::pieces::{Carrier, runs, too_large};
use crate::wal::{AppendSender, AppendState, entry_cost};
use crate::{Error, Result};

/// Detaches when dropped.
pub(super) struct Sender {
    outbox: Arc<Outbox>,
    journal: JournalId,
    max_entry_bytes: usize,
}

/// What was sent and hasn't gone to the connection yet.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Told when the sender has gone.
    detached: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Entry, Lsn)>,
    sent_cost: u64,
    credit_limit: u64,
    /// Why nothing more is sent.
    ended: Option<Error>,
    is_detached: bool,
    /// Of the connection's task, while it has nothing to send.
    waker: Option<Waker>,
}

impl Sender {
    pub(super) fn new(outbox: Arc<Outbox>, journal: JournalId) -> Self {
        Self {
            outbox,
            journal,
            max_entry_bytes: usize::MAX,
        }
    }

    /// Takes over what the first answer has told.
    pub(super) fn opened(&mut self, max_entry_bytes: usize, credit_limit: u64) {
        self.max_entry_bytes = max_entry_bytes;
        self.outbox.state.lock().credit_limit = credit_limit;
    }
}

impl AppendSender for Sender {
    fn send(&self, entry: Entry, commit: Lsn) -> Result<()> {
        let (journal, found, bytes) = (self.journal, entry.header().journal, entry.encoded_bytes());
        if found != journal {
            return Err(Error::Invalid(format!(
                "an entry of journal {found} sent to journal {journal}"
            )));
        }
        if bytes > self.max_entry_bytes {
            return Err(too_large(bytes, self.max_entry_bytes));
        }
        let cost = entry_cost(bytes);
        let mut state = self.outbox.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if state.sent_cost + cost > state.credit_limit {
            return Err(Error::Throttled(format!(
                "journal {journal}: no credit for {cost} bytes"
            )));
        }
        state.sent_cost += cost;
        state.queue.push_back((entry, commit));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn max_entry_bytes(&self) -> usize {
        self.max_entry_bytes
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.outbox.state.lock().is_detached = true;
        self.outbox.close();
        self.outbox.detached.notify_one();
    }
}

impl Outbox {
    /// `opening`, and then what is sent, for as long as there is a sender.
    pub(super) fn runs(self: Arc<Self>, opening: Bytes) -> impl Stream<Item = Answered<Bytes>> + Send {
        OutgoingRuns {
            outbox: self,
            runs: VecDeque::from([opening]),
        }
    }

    fn end(&self, error: Error) {
        self.state.lock().ended.get_or_insert(error);
        self.close();
    }

    /// Lets go of what is queued, and ends the request.
    fn close(&self) {
        let mut state = self.state.lock();
        state.queue.clear();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The request's body.
struct OutgoingRuns {
    outbox: Arc<Outbox>,
    /// Of the entry that is going out.
    runs: VecDeque<Bytes>,
}

impl Stream for OutgoingRuns {
    type Item = Answered<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut state = this.outbox.state.lock();
        if state.is_detached || state.ended.is_some() {
            return Poll::Ready(None);
        }
        if this.runs.is_empty() {
            let Some((entry, commit)) = state.queue.pop_front() else {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            drop(state);
            this.runs = runs(&entry, Carrier::Append { commit: commit.0 }).into();
        }
        Poll::Ready(this.runs.pop_front().map(Ok))
    }
}

/// Passes the answers on until the stream ends or nobody sends any more.
pub(super) async fn follow(
    mut answers: Streaming<proto::AppendState>,
    told: watch::Sender<AppendState>,
    outbox: Arc<Outbox>,
    peer: String,
) {
    let error = loop {
        tokio::select! {
            biased;
            () = outbox.detached.notified() => return,
            answer = answers.message() => match answer {
                Ok(Some(answer)) => pass_on(&answer, &told, &outbox),
                Ok(None) => break Error::Unavailable {
                    detail: format!("{peer} has ended the append stream"),
                    outcome: Outcome::Unknown,
                },
                Err(status) => break from_status(&status, &peer),
            }
        }
    };
    outbox.end(error.clone());
    told.send_modify(|state| state.failed = Some(error));
}

fn pass_on(answer: &proto::AppendState, told: &watch::Sender<AppendState>, outbox: &Outbox) {
    {
        // Before it is told: whoever learns of credit may use it.
        let mut state = outbox.state.lock();
        state.credit_limit = state.credit_limit.max(answer.credit_limit);
    }
    told.send_modify(|state| {
        state.durable = state.durable.max(Lsn(answer.durable));
        state.credit_limit = state.credit_limit.max(answer.credit_limit);
    });
}
