//! The server's HTTP port: one GET, and the metrics in what it answers.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status and body.
///
/// # Errors
/// If nobody answers within 10 s, or not with HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// Samples of the Prometheus text format.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// By name with labels, as written.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self {
            samples: text
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(sample)
                .collect(),
        }
    }

    /// The sum over all labels of the samples that have this name.
    ///
    /// # Panics
    /// If there is none: a test that asks for a metric nobody exports is wrong.
    pub fn sum(&self, name: &str) -> f64 {
        assert!(self.named(name).next().is_some(), "there is no metric {name}");
        self.sum_where(name, "")
    }

    /// As [`Metrics::sum`], of the samples whose labels contain `label`, as in `source="object"`. A labelled sample comes to
    /// be when it is first counted, so none is 0.
    pub fn sum_where(&self, name: &str, label: &str) -> f64 {
        self.named(name)
            .filter(|(key, _)| key.contains(label))
            .map(|(_, value)| value)
            .sum()
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, &'a f64)> {
        self.samples.iter().filter(move |(key, _)| {
            key.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        })
    }
}
