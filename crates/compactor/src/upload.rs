//! Upload: from the WAL's journals to objects, until a journal has ended and all of it is there.
//!
//! One loop a leased journal. It watches what the WAL holds ([`trigger`]), reads a bounded run of entries, sorts it into
//! objects ([`plan`]), puts those ([`shared`]) and commits them ([`journal`]); the commit moves the journal's trim LSN. Each commit brings,
//! for each stream, the snapshot exact at the uploaded end it sets ([`states`]).
//!
//! What holds:
//! - A commit covers the entries from the trim LSN on, and of each stream exactly what follows its uploaded end: what
//!   another upload has brought already is clipped, and before an entry that would leave a hole in a stream the run
//!   ends. The hole is in another journal (the stream had moved away and come back, or a journal rolled over), whose
//!   upload doesn't wait for this one: an entry is written after whatever it follows in its streams, so the waits form no
//!   circle. Streams are thereby uploaded without holes, each with its snapshot.
//! - Record bytes are neither copied nor summed again on the way.
//! - A failed attempt holds nothing while it waits for the next one, and no other journal's upload waits for it. What it
//!   had put stays prepared, is named as abandoned in the next commit, or expires.
//! - A commit whose outcome is unknown is repeated as it is, until it is known.

mod journal;
mod metrics;
mod plan;
mod shared;
mod states;
mod trigger;

pub(crate) use journal::run;
pub(crate) use shared::Uploads;
pub(crate) use states::States;

#[cfg(test)]
mod tests;
