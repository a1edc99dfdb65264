//! The embedded store: sled 0.34, made durable and kept going when the disk is full.
//!
//! What sled doesn't do by itself, and is done here:
//! - its `flush` is `sync_file_range`, which leaves out metadata and the disk's cache: its log is fdatasynced after it.
//! - a record above a quarter segment goes to a file of its own, which is never synced: values are stored in pieces that
//!   stay below it (a tree node has at most 17 of them).
//! - after one write that found no room it fails all others until it is opened anew: it is dropped then, and the next load
//!   opens it. Any other failed write, and any failed sync, is final: nothing is retried on pages that may be lost.
//! - it reads its log through the page cache, where pages that failed to be written look as if they had been: before it is
//!   opened they are dropped, so that it finds what the disk has.
//! - to be opened it has to write: a ballast file is given up for that, and nothing is accepted until it is back.
//! - segments are cleaned by its background flusher only, which can't be turned off without its log growing for ever: it
//!   runs every few seconds. What it flushes early is part of a batch that recovery takes whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tailwater_runtime::Tasks;
use tailwater_types::{Kind, Outcome};

use super::ballast::Ballast;
use super::{MetadataStore, Pair, StoreError, Write};

const PIECE_BYTES: usize = 6 * 1024;

/// A piece's number, behind the key.
const NUMBER_BYTES: usize = 2;

/// How often sled cleans segments.
const CLEAN_EVERY_MS: u64 = 5_000;

/// A store that was just dropped may hold its lock for a moment, while its last thread ends.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_RETRY: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub struct SledOptions {
    /// The folder, of the store alone.
    pub path: PathBuf,
    pub cache_bytes: u64,
    pub ballast_bytes: u64,
}

/// See the module's text. Everything that blocks runs on a thread for that.
pub struct SledStore {
    options: SledOptions,
    tasks: Tasks,
    /// `None` before the first load and after an error of unknown outcome.
    open: Option<Open>,
}

impl SledStore {
    pub fn new(options: SledOptions, tasks: Tasks) -> Self {
        Self {
            options,
            tasks,
            open: None,
        }
    }

    async fn blocking<T, F>(&self, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, StoreError> + Send + 'static,
    {
        let ran = self.tasks.run_blocking("metadata-store", body).await;
        ran.unwrap_or_else(|error| Err(unavailable(Outcome::Unknown, error.to_string())))
    }
}

#[async_trait]
impl MetadataStore for SledStore {
    async fn load(&mut self) -> Result<Vec<Pair>, StoreError> {
        let (options, open) = (self.options.clone(), self.open.take());
        let (open, pairs) = self
            .blocking(move || {
                let mut open = open.map_or_else(|| Open::new(&options), Ok)?;
                let pairs = open.load()?;
                Ok((open, pairs))
            })
            .await?;
        self.open = Some(open);
        Ok(pairs)
    }

    async fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        let Some(mut open) = self.open.take() else {
            let detail = "it is not open".to_owned();
            return Err(unavailable(Outcome::DidNotHappen, detail));
        };
        let (open, result) = self
            .blocking(move || match open.commit(batch) {
                Err(error) if error.is_final() => {
                    // Dropping it would write and sync once more; its lock keeps this process from opening it again.
                    std::mem::forget(open);
                    Ok((None, Err(error)))
                }
                Err(error) if error.outcome == Outcome::Unknown => {
                    open.abandon();
                    Ok((None, Err(error)))
                }
                result => Ok((Some(open), result)),
            })
            .await?;
        self.open = open;
        result
    }

    async fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let closed = self.blocking(move || {
                drop(open);
                Ok(())
            });
            if let Err(error) = closed.await {
                tracing::warn!(%error, "closing");
            }
        }
    }
}

/// An open sled.
struct Open {
    db: sled::Db,
    /// Sled's log, to sync it.
    log: File,
    ballast: Ballast,
    /// How many pieces each value has that has more than one.
    pieces: BTreeMap<Vec<u8>, u16>,
}

impl Open {
    fn new(options: &SledOptions) -> Result<Self, StoreError> {
        let path = &options.path;
        std::fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
        forget_cached(path).map_err(|error| failed(path, &error))?;
        let mut ballast = Ballast::new(path.with_extension("ballast"), options.ballast_bytes);
        let db = match open_sled(options) {
            Err(error) if is_full(&error) => {
                ballast.release();
                open_sled(options)
            }
            opened => opened,
        };
        let db = db.map_err(|error| sled_failed(path, error))?;
        let log = sync_files(path).map_err(|error| failed(path, &error))?;
        Ok(Self {
            db,
            log,
            ballast,
            pieces: BTreeMap::new(),
        })
    }

    fn load(&mut self) -> Result<Vec<Pair>, StoreError> {
        self.pieces.clear();
        let mut pairs: Vec<Pair> = Vec::new();
        for piece in self.db.iter() {
            let (key, value) = piece.map_err(|error| {
                let error = error.to_string();
                unavailable(Outcome::DidNotHappen, error)
            })?;
            let Some((key, number)) = key.split_last_chunk::<NUMBER_BYTES>() else {
                return Err(foreign(format!("key {key:02x?}")));
            };
            match pairs.last_mut().filter(|last| last.0 == key) {
                None if *number == [0, 0] => pairs.push((key.to_vec(), value.to_vec())),
                Some((_, whole)) => {
                    let count = self.pieces.entry(key.to_vec()).or_insert(1);
                    if *number != count.to_be_bytes() {
                        return Err(foreign(format!("piece {number:02x?} of key {key:02x?}")));
                    }
                    *count += 1;
                    whole.extend_from_slice(&value);
                }
                None => return Err(foreign(format!("piece {number:02x?} of key {key:02x?}"))),
            }
        }
        Ok(pairs)
    }

    fn commit(&mut self, batch: Vec<Write>) -> Result<(), StoreError> {
        self.ballast.hold().map_err(|error| StoreError {
            kind: Kind::Throttled,
            outcome: Outcome::DidNotHappen,
            detail: format!("there is no room on its disk: {error}"),
        })?;
        let mut pieces = sled::Batch::default();
        for (key, value) in batch {
            self.add(&mut pieces, key, value);
        }
        let written = self.db.apply_batch(pieces).and_then(|()| self.db.flush());
        // Also where there was no room: it tells a write that was refused from pages that were lost later.
        let synced = self.log.sync_data();
        synced.map_err(|error| unavailable(Outcome::Unknown, format!("syncing its log: {error}")))?;
        written.map(drop).map_err(|error| StoreError {
            kind: if is_full(&error) {
                Kind::Throttled
            } else {
                Kind::Unavailable
            },
            outcome: Outcome::Unknown,
            detail: error.to_string(),
        })
    }

    fn add(&mut self, batch: &mut sled::Batch, key: Vec<u8>, value: Option<Vec<u8>>) {
        let chunks = value
            .as_ref()
            .map_or(0, |value| value.len().div_ceil(PIECE_BYTES).max(1));
        let now = u16::try_from(chunks).expect("a batch is at most 1 MiB");
        let before = self.pieces.remove(&key).unwrap_or(1);
        for number in now..before {
            batch.remove(piece_key(&key, number));
        }
        let Some(value) = value else { return };
        for number in 0..now {
            let from = usize::from(number) * PIECE_BYTES;
            let to = value.len().min(from + PIECE_BYTES);
            batch.insert(piece_key(&key, number), &value[from..to]);
        }
        if now > 1 {
            self.pieces.insert(key, now);
        }
    }

    /// Drops a sled that found no room, which does no more I/O by itself, and the ballast.
    fn abandon(self) {
        let Self { db, mut ballast, .. } = self;
        drop(db);
        ballast.release();
    }
}

fn open_sled(options: &SledOptions) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(&options.path)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(CLEAN_EVERY_MS));
    let mut opened = config.open();
    for _ in 0..LOCK_ATTEMPTS {
        match &opened {
            Err(error) if is_locked(error) => {
                std::thread::sleep(LOCK_RETRY);
                opened = config.open();
            }
            _ => break,
        }
    }
    opened
}

/// Drops the cached pages of sled's files, so that what is read next is on the disk. A page whose write failed is clean, by
/// the kernel's count, and would be read back by the process that was told of the failure, or by the next one.
fn forget_cached(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let file = File::open(entry.path())?;
        // Dirty pages, of a process that was killed, stay cached otherwise.
        file.sync_all()?;
        // SAFETY: the descriptor is open as long as `file` lives.
        let errno = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
    }
    Ok(())
}

/// Syncs what sled has made, once after it was opened, and answers with its log.
fn sync_files(path: &Path) -> io::Result<File> {
    for entry in std::fs::read_dir(path)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    File::open(path.join("db"))
}

fn piece_key(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn is_full(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if is_full_disk(error))
}

fn is_full_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn sled_failed(path: &Path, error: sled::Error) -> StoreError {
    let kind = match &error {
        error if is_full(error) => Kind::Throttled,
        sled::Error::Corruption { .. } => Kind::Corrupt,
        sled::Error::Unsupported(_) => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    let detail = if is_locked(&error) {
        "it is in use by another process".to_owned()
    } else {
        error.to_string()
    };
    // Opening it writes and syncs: if that failed, the file may have lost pages.
    let outcome = match &error {
        sled::Error::Io(_) if !is_locked(&error) => Outcome::Unknown,
        _ => Outcome::DidNotHappen,
    };
    StoreError {
        kind,
        outcome,
        detail: format!("{}: {detail}", path.display()),
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError {
        kind: if is_full_disk(error) {
            Kind::Throttled
        } else {
            Kind::Unavailable
        },
        outcome: Outcome::Unknown,
        detail: format!("{}: {error}", path.display()),
    }
}

fn foreign(detail: String) -> StoreError {
    StoreError {
        kind: Kind::Invalid,
        outcome: Outcome::DidNotHappen,
        detail: format!("{detail} is none of ours"),
    }
}

fn unavailable(outcome: Outcome, detail: String) -> StoreError {
    StoreError {
        kind: Kind::Unavailable,
        outcome,
        detail,
    }
}
