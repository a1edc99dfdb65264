//! What `protocol.md` says without any client: lines out, files of records, digests.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// What the topics of the matrix take, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 2 << 20;
/// A member commits after this many records at the latest.
pub const COMMIT_EVERY: usize = 300;
/// In the order of their numbers.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// `None` is null.
pub type Part = Option<Vec<u8>>;

/// A record as the file has it.
#[derive(Debug)]
pub struct Task {
    pub index: i32,
    pub codec: &'static str,
    /// Below 0: where the client likes.
    pub partition: i32,
    pub timestamp_ms: i64,
    pub key: Part,
    pub value: Part,
    pub headers: Vec<(String, Part)>,
}

/// Writes whole lines, in order, from any thread.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Whoever listened is gone: nobody is left to be told.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A text as one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub fn digest(part: Option<&[u8]>) -> String {
    part.map_or_else(|| "-".to_owned(), |bytes| format!("{}:{}", bytes.len(), hash(bytes)))
}

pub fn digest_of_headers(headers: &[(&str, Option<&[u8]>)]) -> String {
    let mut encoded = Vec::new();
    let mut add = |part: Option<&[u8]>| {
        let length = part.map_or(-1, |bytes| bytes.len() as i32);
        encoded.extend_from_slice(&length.to_be_bytes());
        encoded.extend_from_slice(part.unwrap_or_default());
    };
    for (name, value) in headers {
        add(Some(name.as_bytes()));
        add(*value);
    }
    format!("{}:{}", headers.len(), hash(&encoded))
}

/// The records of a file, one at a time.
pub struct Tasks(BufReader<File>);

impl Tasks {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::with_capacity(1 << 20, File::open(path)?)))
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.bytes()?))
    }

    fn part(&mut self) -> io::Result<Part> {
        let Ok(length) = usize::try_from(self.int()?) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn task(&mut self, index: i32) -> io::Result<Task> {
        let [codec] = self.bytes()?;
        let partition = self.int()?;
        let timestamp_ms = i64::from_be_bytes(self.bytes()?);
        let (key, value) = (self.part()?, self.part()?);
        let mut headers = Vec::new();
        for _ in 0..self.int()? {
            let name = self.part()?.unwrap_or_default();
            headers.push((String::from_utf8_lossy(&name).into_owned(), self.part()?));
        }
        let codec = CODECS[usize::from(codec)];
        Ok(Task {
            index,
            codec,
            partition,
            timestamp_ms,
            key,
            value,
            headers,
        })
    }
}

impl Iterator for Tasks {
    type Item = io::Result<Task>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.int() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(Err(error)),
            Ok(index) => Some(self.task(index)),
        }
    }
}
