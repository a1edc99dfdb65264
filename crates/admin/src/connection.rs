//! One blocking connection to one broker, which asks first what the broker speaks.
//!
//! Owns: which version of an API is spoken, and deadlines. Does not own: which broker is asked (`client`).

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::BytesMut;
use tailwater_kafka::messages::{ApiVersionsRequest, ApiVersionsResponse};
use tailwater_kafka::{ApiKey, RequestMessage, Str, Versions, decode_response, encode_request};
use tailwater_runtime::Clock;
use tailwater_runtime::clock::Instant;

use crate::error::Error;

const CLIENT_ID: &str = "tailwater-admin";
/// Every Kafka since 2.4 has it.
const API_VERSIONS_VERSION: i16 = 3;
/// Beyond any answer to what is asked here: more means that no Kafka answers.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// For a connection and its greeting: whoever takes longer is taken to be away.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    clock: Clock,
    next_id: i32,
    /// What the broker speaks.
    versions: BTreeMap<i16, Versions>,
    /// The rest of what it said about itself.
    greeting: ApiVersionsResponse,
}

impl Connection {
    /// Connects to `HOST:PORT` and asks what is spoken there.
    ///
    /// # Errors
    /// [`Error::Connect`]: also where something other than a broker answers.
    pub fn open(address: &str, clock: &Clock, deadline: Instant) -> Result<Self, Error> {
        // One that doesn't answer leaves time for the others.
        let deadline = deadline.min(clock.now() + GREETING_LIMIT);
        let failed = |reason: String| Error::Connect {
            address: address.to_owned(),
            reason,
        };
        let stream = connect(address, clock, deadline).map_err(|error| failed(reason(&error)))?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            clock: clock.clone(),
            next_id: 0,
            versions: BTreeMap::new(),
            greeting: ApiVersionsResponse::default(),
        };
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static(CLIENT_ID),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        };
        let greeting = connection.exchange(API_VERSIONS_VERSION, &request, deadline);
        let greeting = greeting.map_err(|error| match error {
            Error::Lost { reason, .. } => failed(format!("it doesn't answer as a Kafka broker does: {reason}")),
            error => error,
        })?;
        Error::check(greeting.error_code, None)?;
        let spoken = greeting.api_keys.iter().map(|api| {
            let (min, max) = (api.min_version, api.max_version);
            (api.api_key, Versions { min, max })
        });
        connection.versions = spoken.collect();
        connection.greeting = greeting;
        Ok(connection)
    }

    /// What the broker said when it was greeted: its features, and what it speaks.
    pub fn greeting(&self) -> &ApiVersionsResponse {
        &self.greeting
    }

    /// Asks in the newest version that both sides have and `wanted` allows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without such a version, [`Error::Lost`]: the connection is of no use any more.
    pub fn call<R: RequestMessage>(
        &mut self,
        wanted: Versions,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        let version = self.version(R::API, R::VERSIONS, wanted)?;
        self.exchange(version, request, deadline)
    }

    fn version(&self, api: ApiKey, ours: Versions, wanted: Versions) -> Result<i16, Error> {
        let unsupported = |reason: String| Error::Unsupported {
            address: self.address.clone(),
            api,
            reason,
        };
        let Some(theirs) = self.versions.get(&api.code()) else {
            return Err(unsupported("it has none".to_owned()));
        };
        let newest = ours.max.min(wanted.max).min(theirs.max);
        let oldest = ours.min.max(wanted.min).max(theirs.min);
        match oldest <= newest {
            true => Ok(newest),
            false => Err(unsupported(format!(
                "it has {} to {}, {} to {} is needed",
                theirs.min,
                theirs.max,
                ours.min.max(wanted.min),
                ours.max.min(wanted.max)
            ))),
        }
    }

    fn exchange<R: RequestMessage>(
        &mut self,
        version: i16,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, Error> {
        self.next_id += 1;
        let id = self.next_id;
        let client = Some(Str::from_static(CLIENT_ID));
        let frame = encode_request(id, client, version, request).map_err(Error::Encode)?;
        let lost = |reason: String| Error::Lost {
            address: self.address.clone(),
            api: R::API,
            reason,
        };
        let answer = self.send_and_wait(&frame.into_bytes(), deadline);
        let answer = answer.map_err(|error| lost(reason(&error)))?;
        let (answered, response) =
            decode_response::<R::Response>(answer, version).map_err(|error| lost(format!("malformed: {error}")))?;
        match answered == id {
            true => Ok(response),
            false => Err(lost(format!("answer {answered} to request {id}"))),
        }
    }

    fn send_and_wait(&self, frame: &[u8], deadline: Instant) -> io::Result<BytesMut> {
        let mut stream = &self.stream;
        stream.set_write_timeout(Some(left(&self.clock, deadline)?))?;
        stream.write_all(frame)?;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_ANSWER_BYTES {
            return Err(io::Error::other("what comes back is no Kafka answer"));
        }
        // As it arrives: what a length announces is believed once it is there.
        let mut answer = BytesMut::new();
        while answer.len() < length {
            let step = (length - answer.len()).min(1 << 20);
            let begin = answer.len();
            answer.resize(begin + step, 0);
            self.read(&mut answer[begin..], deadline)?;
        }
        Ok(answer)
    }

    /// Fills `buffer`, and waits for it until `deadline` in all.
    fn read(&self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        let mut stream = &self.stream;
        while !buffer.is_empty() {
            stream.set_read_timeout(Some(left(&self.clock, deadline)?))?;
            match stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("it closed the connection")),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Tries each address that the name has.
fn connect(address: &str, clock: &Clock, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    for resolved in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, left(clock, deadline)?) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn left(clock: &Clock, deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(clock.now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out (--timeout)".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
