//! Opening, formatting and recognising a device, and the two superblock slots.
//!
//! Keeps: a device that isn't empty and isn't ours is never written to; slots are written in turn, each flushed before
//! anything relies on it.

use std::path::Path;
use std::sync::Arc;

use tailwater_format::FormatError;
use tailwater_format::device::{SUPERBLOCK_BYTES, SUPERBLOCK_SLOTS, Superblock};
use tailwater_runtime::device::FileDevice;
use tailwater_runtime::{AlignedBuf, Device, DeviceError};
use tailwater_types::{DeviceEpoch, DeviceId, JournalId, NodeId};

use crate::Error;

const BLANK_CHECK_BYTES: usize = 1 << 20;

/// The superblock of an open device.
pub(crate) struct Superblocks {
    device: Arc<dyn Device>,
    current: Superblock,
    slot: AlignedBuf,
}

/// The superblock that an earlier life left.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) superblock: Superblock,
    /// The other slot can't be read: it may have been the newer one.
    other_is_lost: bool,
}

impl Found {
    /// It is surely the newest that was flushed.
    pub(crate) fn is_certain(&self) -> bool {
        !self.other_is_lost
    }
}

impl Superblocks {
    /// Recognises the device as this node's, or formats it if it is blank. `name` is what messages call it; `fresh` is
    /// the id that a blank one gets.
    pub(crate) fn open(
        device: Arc<dyn Device>,
        name: &str,
        node: NodeId,
        fresh: DeviceId,
        window_bytes: u64,
    ) -> Result<(Self, Found), Error> {
        let found = match load(device.as_ref(), name)? {
            Some(found) => found,
            None => Found {
                superblock: format(device.as_ref(), node, fresh, window_bytes)?,
                other_is_lost: false,
            },
        };
        let current = found.superblock.clone();
        if current.node != node {
            return Err(Error::OtherNode {
                device: name.to_owned(),
                found: current.node,
                expected: node,
            });
        }
        if device.len() < current.capacity_bytes {
            let (found_bytes, needed_bytes) = (device.len(), current.capacity_bytes);
            return Err(Error::TooSmall {
                device: name.to_owned(),
                found_bytes,
                needed_bytes,
            });
        }
        let slot = AlignedBuf::zeroed(SUPERBLOCK_BYTES);
        Ok((Self { device, current, slot }, found))
    }

    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Writes the next superblock, durably, into the slot of the one before the current.
    pub(crate) fn store(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), DeviceError> {
        let mut next = self.current.clone();
        change(&mut next);
        next.sequence += 1;
        write(self.device.as_ref(), &next, &mut self.slot)?;
        self.current = next;
        Ok(())
    }
}

/// Writes the first superblock of a blank device, durably.
pub(crate) fn format(
    device: &dyn Device,
    node: NodeId,
    id: DeviceId,
    window_bytes: u64,
) -> Result<Superblock, DeviceError> {
    let first = Superblock {
        sequence: 1,
        device: id,
        cluster: None,
        node,
        epoch: DeviceEpoch(0),
        capacity_bytes: device.len(),
        trim: 0,
        flushed: 0,
        window_bytes,
        clean: true,
        gone_end: JournalId(0),
    };
    write(device, &first, &mut AlignedBuf::zeroed(SUPERBLOCK_BYTES))?;
    Ok(first)
}

fn write(device: &dyn Device, superblock: &Superblock, slot: &mut [u8]) -> Result<(), DeviceError> {
    slot.copy_from_slice(&superblock.encode());
    device.write_at(slot, superblock.sequence % SUPERBLOCK_SLOTS * SUPERBLOCK_BYTES as u64)?;
    device.flush()
}

/// Opens the file of a device; makes it, `capacity_bytes` long, where there is none or an empty one, and then formats it:
/// what has just been made needn't be read to know that it is blank.
pub(crate) fn open_file(
    path: &Path,
    capacity_bytes: u64,
    format: impl FnOnce(&FileDevice) -> Result<Superblock, DeviceError>,
) -> Result<FileDevice, Error> {
    let create = |path: &Path| {
        let device = FileDevice::create(path, capacity_bytes)?;
        format(&device)?;
        Ok(device)
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => {
            let in_the_way = path.canonicalize().and_then(|file| {
                std::fs::remove_file(&file)?;
                Ok(file)
            });
            let file = in_the_way.map_err(|source| Error::File {
                path: path.to_owned(),
                source,
            })?;
            create(&file)
        }
        Ok(_) => Ok(FileDevice::open(path, SUPERBLOCK_SLOTS * SUPERBLOCK_BYTES as u64)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path),
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The superblock that holds, or `None` on a blank device.
fn load(device: &dyn Device, name: &str) -> Result<Option<Found>, Error> {
    let mut slots = AlignedBuf::zeroed(SUPERBLOCK_SLOTS as usize * SUPERBLOCK_BYTES);
    device.read_at(&mut slots, 0)?;
    let mut best: Option<Superblock> = None;
    let (mut failure, mut valid, mut zeros) = (None, 0, 0);
    for slot in slots.chunks(SUPERBLOCK_BYTES) {
        match Superblock::decode(slot) {
            Ok(found) => {
                valid += 1;
                if best.as_ref().is_none_or(|best| best.sequence < found.sequence) {
                    best = Some(found);
                }
            }
            // Newer software was here: the other slot is older than what it did.
            Err(source @ FormatError::Version { .. }) => {
                return Err(Error::Superblock {
                    device: name.to_owned(),
                    source,
                });
            }
            Err(FormatError::Magic { .. }) if slot.iter().all(|&byte| byte == 0) => zeros += 1,
            Err(FormatError::Magic { .. }) => {}
            Err(source) => failure = Some(source),
        }
    }
    let device_name = || name.to_owned();
    match (best, failure) {
        (Some(superblock), _) => {
            // The first superblock of all stands beside a slot that was never written.
            let is_first = superblock.sequence == 1 && zeros == 1;
            Ok(Some(Found {
                superblock,
                other_is_lost: valid == 1 && !is_first,
            }))
        }
        (None, Some(source)) => Err(Error::Superblock {
            device: device_name(),
            source,
        }),
        // A creation can be cut off before its first superblock; then there are only zeros.
        (None, None) if is_blank(device)? => Ok(None),
        (None, None) => Err(Error::NotOurs { device: device_name() }),
    }
}

fn is_blank(device: &dyn Device) -> Result<bool, DeviceError> {
    let mut buffer = AlignedBuf::zeroed(BLANK_CHECK_BYTES);
    let mut position = 0;
    while position < device.len() {
        let step = (device.len() - position).min(BLANK_CHECK_BYTES as u64);
        let piece = &mut buffer[..usize::try_from(step).expect("no longer than the buffer")];
        device.read_at(piece, position)?;
        if piece.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        position += step;
    }
    Ok(true)
}
