//! A file that only takes up room: given back when the disk is full, so that the store can be opened again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Ballast {
    /// A ballast of an earlier life is taken over.
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        let held = fs::metadata(&path).is_ok_and(|found| found.len() >= bytes);
        Self { path, bytes, held }
    }

    /// Takes up the room, if it doesn't yet.
    ///
    /// # Errors
    /// Without room for it; then nothing is taken up.
    pub fn hold(&mut self) -> io::Result<()> {
        if self.held || self.bytes == 0 {
            return Ok(());
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)?;
        if let Err(error) = allocate(&file, self.bytes) {
            // What was allocated before the end of the room is given back.
            self.release();
            return Err(error);
        }
        self.held = true;
        Ok(())
    }

    /// Gives the room back.
    pub fn release(&mut self) {
        self.held = false;
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the ballast can't be removed");
        }
    }
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for writing as long as `file` lives.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
