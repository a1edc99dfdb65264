//! A small file system that runs full.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of `bytes` at `path`; `None`, after saying so, where that isn't allowed.
    pub fn mount(what: &str, path: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(path).expect("the mount point is created");
        let size = format!("size={bytes}");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(path)
            .output();
        match done {
            Ok(done) if done.status.success() => Some(Self { path: path.to_owned() }),
            Ok(done) => {
                skip(
                    what,
                    &format!("can't mount a tmpfs: {}", String::from_utf8_lossy(&done.stderr).trim()),
                );
                None
            }
            Err(error) => {
                skip(what, &format!("can't run mount: {error}"));
                None
            }
        }
    }

    /// # Panics
    /// If the system refuses.
    pub fn resize(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.path).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "remounting {} with {bytes} bytes",
            self.path.display()
        );
    }

    /// Fills what is free with one file, which it answers.
    pub fn fill(&self) -> PathBuf {
        let filler = self.path.join("filler");
        let mut file = std::fs::File::create(&filler).expect("the filler is created");
        let page = [1_u8; 4096];
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        filler
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a server that is still being torn down may have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
