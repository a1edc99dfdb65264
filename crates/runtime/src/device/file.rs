//! A device in a regular file: fully allocated, locked against other processes, O_DIRECT where the file system can.
//!
//! Owns: opening, creating, locking. Keeps: a file under the device's own name is always fully allocated, since it is
//! made under another name and renamed when done.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{ALIGNMENT_BYTES, Device, DeviceError, Operation, check};
use crate::pool::AlignedBuf;

/// Written at once where the file system can't allocate without writing.
const ZEROING_BYTES: usize = 1 << 20;

/// Holds an exclusive lock on the file for as long as it lives.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    bytes: u64,
    direct: bool,
}

impl FileDevice {
    /// Creates a device of `bytes` (rounded down to the alignment), zeroed and durable under its name. What an
    /// interrupted creation left is removed.
    pub fn create(path: &Path, bytes: u64) -> Result<Self, DeviceError> {
        let bytes = bytes - bytes % ALIGNMENT_BYTES as u64;
        if bytes == 0 {
            let needed_bytes = ALIGNMENT_BYTES as u64;
            return Err(DeviceError::TooSmall {
                path: path.to_owned(),
                found_bytes: 0,
                needed_bytes,
            });
        }
        let partial = partial_path(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options
            .open(&partial)
            .map_err(|error| io_error(&partial, Operation::Open, error))?;
        lock(&file, &partial)?;
        // Only the holder of the partial file's lock gets here, so nobody creates `path` in between.
        if path.symlink_metadata().is_ok() {
            drop(std::fs::remove_file(&partial));
            return Err(DeviceError::Exists { path: path.to_owned() });
        }
        let device = Self {
            file,
            path: path.to_owned(),
            bytes,
            direct: false,
        };
        if let Err(error) = device.allocate_and_publish(&partial) {
            // Best effort: the next creation begins by emptying it.
            drop(std::fs::remove_file(&partial));
            return Err(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    DeviceError::NoSpace {
                        path: path.to_owned(),
                        needed_bytes: bytes,
                    }
                }
                _ => io_error(path, Operation::Open, error),
            });
        }
        Ok(device.with_direct_io())
    }

    /// Opens an existing device, following symbolic links.
    pub fn open(path: &Path, min_bytes: u64) -> Result<Self, DeviceError> {
        let metadata = std::fs::metadata(path).map_err(|error| io_error(path, Operation::Open, error))?;
        // Before opening: opening a pipe would wait, and a tape would rewind.
        if !metadata.is_file() {
            return Err(DeviceError::NotRegular { path: path.to_owned() });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options
            .open(path)
            .map_err(|error| io_error(path, Operation::Open, error))?;
        lock(&file, path)?;
        let found = file
            .metadata()
            .map_err(|error| io_error(path, Operation::Open, error))?
            .len();
        let needed_bytes = min_bytes.max(ALIGNMENT_BYTES as u64);
        if found < needed_bytes {
            return Err(DeviceError::TooSmall {
                path: path.to_owned(),
                found_bytes: found,
                needed_bytes,
            });
        }
        let bytes = found - found % ALIGNMENT_BYTES as u64;
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
            direct: false,
        }
        .with_direct_io())
    }

    /// Whether writes bypass the page cache. Durability is the same without: `flush` makes it.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn allocate_and_publish(&self, partial: &Path) -> io::Result<()> {
        self.file.set_len(0)?;
        self.allocate()?;
        self.file.sync_all()?;
        std::fs::rename(partial, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn allocate(&self) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let length = libc::off_t::try_from(self.bytes).map_err(too_large)?;
        // SAFETY: a plain system call on a descriptor that `self.file` keeps open.
        if unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) {
            return Err(error);
        }
        let zeroes = vec![0; ZEROING_BYTES];
        let mut position = 0;
        while position < self.bytes {
            let step = zeroes
                .len()
                .min(usize::try_from(self.bytes - position).unwrap_or(usize::MAX));
            self.file.write_all_at(&zeroes[..step], position)?;
            position += step as u64;
        }
        Ok(())
    }

    /// Switches to O_DIRECT if the file system takes the flag and a read of one page then works.
    fn with_direct_io(mut self) -> Self {
        self.direct = set_direct(&self.file, true).is_ok();
        if self.direct
            && self
                .file
                .read_exact_at(&mut AlignedBuf::zeroed(ALIGNMENT_BYTES), 0)
                .is_err()
        {
            self.direct = set_direct(&self.file, false).is_err();
        }
        self
    }

    fn io_error(&self, operation: Operation, position: u64, source: io::Error) -> DeviceError {
        DeviceError::Io {
            operation,
            device: self.path.display().to_string(),
            position,
            source,
        }
    }
}

impl Device for FileDevice {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<(), DeviceError> {
        check(Operation::Read, buffer, position, self.bytes)?;
        let read = self.file.read_exact_at(buffer, position);
        read.map_err(|error| self.io_error(Operation::Read, position, error))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), DeviceError> {
        check(Operation::Write, bytes, position, self.bytes)?;
        let written = self.file.write_all_at(bytes, position);
        written.map_err(|error| self.io_error(Operation::Write, position, error))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.file
            .sync_data()
            .map_err(|error| self.io_error(Operation::Flush, 0, error))
    }
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

fn lock(file: &File, path: &Path) -> Result<(), DeviceError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(DeviceError::InUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(io_error(path, Operation::Open, error)),
    }
}

fn set_direct(file: &File, on: bool) -> io::Result<()> {
    let descriptor = file.as_raw_fd();
    // SAFETY: plain system calls on a descriptor that `file` keeps open.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = if on {
        flags | libc::O_DIRECT
    } else {
        flags & !libc::O_DIRECT
    };
    // SAFETY: as above.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn io_error(path: &Path, operation: Operation, source: io::Error) -> DeviceError {
    if source.kind() == io::ErrorKind::NotFound {
        return DeviceError::NotFound { path: path.to_owned() };
    }
    DeviceError::Io {
        operation,
        device: path.display().to_string(),
        position: 0,
        source,
    }
}
