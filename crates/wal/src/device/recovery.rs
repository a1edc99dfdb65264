//! Reads the log of an earlier life: from the trim position to the first write that isn't valid.
//!
//! Keeps (docs/design.md section 6): writes behind that hole which nobody was answered for are dropped; a hole below a
//! position that is known to have been flushed is damage, and an error instead of a short log. What is found is
//! flushed before anything relies on it. Does not own: what the records mean (`journal::Replay`).

use std::sync::Arc;

use tailwater_format::device::{
    BLOCK_BYTES, Fragment, RecordKind, Superblock, WRITE_HEADER_BYTES, WriteHeader, fragments,
};
use tailwater_format::entry::EntryHeader;
use tailwater_format::{FormatError, device::JournalRecord};
use tailwater_runtime::{AlignedBuf, Device, DeviceError};
use tailwater_types::DeviceEpoch;

use super::{Extent, Found, Geometry, Placed};
use crate::Error;

const CHUNK_BYTES: usize = 4 << 20;

/// A record as found in the log.
pub(crate) enum Record {
    /// An entry's header; the whole is `bytes` long.
    Entry {
        header: EntryHeader,
        bytes: usize,
    },
    Journal(JournalRecord),
}

/// What recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The end of the valid writes: the next one goes here.
    pub(crate) head: u64,
    pub(crate) records: u64,
}

/// Hands every whole record to `visit`, in order, and ends with a flush. `superblocks` is as the earlier life left it;
/// what `visit` refuses is damage.
pub(crate) fn recover(
    device: &Arc<dyn Device>,
    name: &str,
    superblocks: &Found,
    visit: impl FnMut(Record, Placed) -> Result<(), String>,
) -> Result<Log, Error> {
    let superblock = &superblocks.superblock;
    let geometry = Geometry::of(superblock.capacity_bytes);
    let (trim, flushed) = (superblock.trim, superblock.flushed);
    let damaged = |position, detail| Error::Damaged {
        device: name.to_owned(),
        position,
        byte: geometry.byte(position),
        detail,
    };
    if !trim.is_multiple_of(BLOCK_BYTES) || flushed < trim || flushed - trim > geometry.ring_bytes() {
        let detail = format!("the superblock has trim position {trim} and flushed position {flushed}");
        return Err(damaged(trim, detail));
    }
    let end = trim + geometry.ring_bytes();
    let chunk = CHUNK_BYTES.min(usize::try_from(geometry.ring_bytes()).unwrap_or(CHUNK_BYTES));
    let mut ring = Ring {
        device,
        geometry,
        end,
        buffer: AlignedBuf::zeroed(chunk),
        start: 0,
        length: 0,
    };
    let mut records = Assembly {
        visit,
        begun: false,
        partial: None,
        records: 0,
    };
    let (mut head, mut epoch) = (trim, DeviceEpoch(0));
    while let Some((header, payload)) = ring.valid_write(superblock, head, epoch)? {
        if header.epoch > superblock.epoch {
            let detail = format!(
                "written under epoch {}, the superblock has {}",
                header.epoch, superblock.epoch
            );
            return Err(damaged(head, detail));
        }
        if header.epoch > epoch {
            // The life that began it is over; nobody was answered for it.
            records.partial = None;
            epoch = header.epoch;
        }
        records.write(head, payload).map_err(|detail| damaged(head, detail))?;
        head += header.bytes() as u64;
    }
    if flushed > head {
        let detail = format!("no valid write, but the superblock says that the log was flushed up to {flushed}");
        return Err(damaged(head, detail));
    }
    // If the other slot can't be read, the superblock may be an old one: then the log itself must not know better.
    let behind_end = if superblocks.is_certain() {
        end.min(head + superblock.window_bytes)
    } else {
        end
    };
    for behind in (head..behind_end).step_by(BLOCK_BYTES as usize) {
        if let Some(write) = ring.any_write(superblock, behind)? {
            refuse_behind(head, behind, &write, superblock).map_err(|detail| damaged(head, detail))?;
        }
    }
    device.flush()?;
    Ok(Log {
        head,
        records: records.records,
    })
}

/// Whether a write found at `position`, behind the log's end at `head`, can be an honest leftover.
fn refuse_behind(head: u64, position: u64, write: &WriteHeader, superblock: &Superblock) -> Result<(), String> {
    let WriteHeader {
        position: written_at,
        flushed,
        epoch,
        ..
    } = *write;
    if written_at == position && flushed > head {
        return Err(format!(
            "no valid write, but one at {written_at} says that the log was flushed up to {flushed}"
        ));
    }
    if written_at > position || epoch > superblock.epoch {
        return Err(format!(
            "a write at {written_at} under epoch {epoch} is newer than the superblock (trim position {}, epoch {}): \
             a newer superblock is lost",
            superblock.trim, superblock.epoch
        ));
    }
    Ok(())
}

/// A window on the ring that moves forward.
struct Ring<'a> {
    device: &'a Arc<dyn Device>,
    geometry: Geometry,
    /// One ring behind the trim position.
    end: u64,
    buffer: AlignedBuf,
    start: u64,
    length: usize,
}

impl Ring<'_> {
    /// The write at `position` with its payload, if it is valid there and not older than `epoch`.
    fn valid_write(
        &mut self,
        superblock: &Superblock,
        position: u64,
        epoch: DeviceEpoch,
    ) -> Result<Option<(WriteHeader, &[u8])>, DeviceError> {
        let Some(header) = self.any_write(superblock, position)? else {
            return Ok(None);
        };
        if header.position != position || header.epoch < epoch {
            return Ok(None);
        }
        let write = self.bytes(position, header.bytes())?;
        let payload = &write[WRITE_HEADER_BYTES..][..header.payload_bytes as usize];
        Ok(Some((header, payload)))
    }

    /// The whole write at the place of `position`, of whatever lap and life of this device.
    fn any_write(&mut self, superblock: &Superblock, position: u64) -> Result<Option<WriteHeader>, DeviceError> {
        let room = (self.end - position).min(self.geometry.before_wrap(position));
        if room == 0 {
            return Ok(None);
        }
        let block = self.bytes(position, BLOCK_BYTES as usize)?;
        let Ok(header) = WriteHeader::peek(block) else {
            return Ok(None);
        };
        let is_here =
            header.device == superblock.device && self.geometry.byte(header.position) == self.geometry.byte(position);
        if !is_here || header.bytes() as u64 > room {
            return Ok(None);
        }
        let write = self.bytes(position, header.bytes())?;
        Ok(WriteHeader::decode(write).is_ok().then_some(header))
    }

    /// `length` bytes at `position`, which the ring has before it wraps.
    fn bytes(&mut self, position: u64, length: usize) -> Result<&[u8], DeviceError> {
        let held = self.start <= position && position + length as u64 <= self.start + self.length as u64;
        if !held {
            let room = (self.end - position).min(self.geometry.before_wrap(position));
            let wanted = usize::try_from(room).map_or(self.buffer.len(), |room| room.min(self.buffer.len()));
            self.length = 0;
            self.device
                .read_at(&mut self.buffer[..wanted], self.geometry.byte(position))?;
            (self.start, self.length) = (position, wanted);
        }
        let at = usize::try_from(position - self.start).expect("within the buffer");
        Ok(&self.buffer[at..at + length])
    }
}

/// Puts fragments together to records.
struct Assembly<V> {
    visit: V,
    /// A record's beginning was seen. Before, there may be the end of one that was trimmed.
    begun: bool,
    partial: Option<Partial>,
    records: u64,
}

struct Partial {
    kind: RecordKind,
    write: u64,
    extents: Vec<Extent>,
    bytes: usize,
    /// A journal record so far; of an entry at least the header so far.
    data: Vec<u8>,
    /// No need for more of an entry than this.
    wanted: usize,
}

impl<V: FnMut(Record, Placed) -> Result<(), String>> Assembly<V> {
    /// The payload of the write at `position`.
    fn write(&mut self, position: u64, payload: &[u8]) -> Result<(), String> {
        for fragment in fragments(payload) {
            let (fragment, start) = fragment.map_err(|error| error.to_string())?;
            let bytes = &payload[start..start + fragment.length as usize];
            let extent = Extent {
                position: position + (WRITE_HEADER_BYTES + start) as u64,
                length: fragment.length,
            };
            self.fragment(position, fragment, extent, bytes)?;
        }
        Ok(())
    }

    fn fragment(&mut self, write: u64, fragment: Fragment, extent: Extent, bytes: &[u8]) -> Result<(), String> {
        self.begun |= fragment.first;
        let mut partial = match (self.partial.take(), fragment.first) {
            (None, false) if !self.begun => return Ok(()),
            (None, true) => Partial {
                kind: fragment.kind,
                write,
                extents: Vec::new(),
                bytes: 0,
                data: Vec::new(),
                wanted: 0,
            },
            (Some(partial), false) if partial.kind == fragment.kind => partial,
            (found, first) => {
                return Err(format!(
                    "a fragment ({:?}, first: {first}) after {}",
                    fragment.kind,
                    if found.is_some() {
                        "an unfinished record"
                    } else {
                        "a whole record"
                    }
                ));
            }
        };
        partial.extents.push(extent);
        partial.bytes += bytes.len();
        partial.take(bytes)?;
        if fragment.last {
            self.records += 1;
            let (record, placed) = partial.finish()?;
            return (self.visit)(record, placed);
        }
        self.partial = Some(partial);
        Ok(())
    }
}

impl Partial {
    /// Keeps what is needed of the next bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self.kind {
            RecordKind::Journal => self.data.extend_from_slice(bytes),
            RecordKind::Entry if self.bytes == bytes.len() || self.data.len() < self.wanted => {
                let mut rest = bytes;
                loop {
                    match EntryHeader::decode(&self.data) {
                        Err(FormatError::Truncated { need, .. }) if need > self.data.len() => {
                            let (now, later) = rest.split_at(rest.len().min(need - self.data.len()));
                            self.data.extend_from_slice(now);
                            (self.wanted, rest) = (need, later);
                            if self.data.len() < need {
                                break;
                            }
                        }
                        Err(error) => return Err(error.to_string()),
                        Ok(_) => break,
                    }
                }
            }
            RecordKind::Entry => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(Record, Placed), String> {
        let record = match self.kind {
            RecordKind::Journal => {
                Record::Journal(JournalRecord::decode(&self.data).map_err(|error| error.to_string())?)
            }
            RecordKind::Entry => {
                let header = EntryHeader::decode(&self.data).map_err(|error| error.to_string())?;
                let bytes = header.header_bytes() + header.body_bytes();
                if bytes != self.bytes {
                    return Err(format!("an entry of {bytes} bytes in a record of {}", self.bytes));
                }
                Record::Entry { header, bytes }
            }
        };
        Ok((
            record,
            Placed {
                write: self.write,
                extents: self.extents.into(),
            },
        ))
    }
}
