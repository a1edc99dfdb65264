//! A plain blocking Kafka connection, for tests that must say exactly what goes over the wire.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tailwater_kafka::batch::BatchBuilder;
use tailwater_kafka::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, FetchPartition, FetchRequest, FetchTopic,
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tailwater_kafka::{ErrorCode, RequestMessage, Str, decode_response, encode_request};

/// Beyond any answer that is still to come.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// The newest that name topics by name.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const CREATE_TOPICS_VERSION: i16 = 5;

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Connection {
    /// # Panics
    /// If nobody takes the connection.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the server takes connections")
    }

    /// # Errors
    /// If nobody takes the connection.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, READ_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        Ok(Self {
            stream,
            next_correlation_id: 0,
        })
    }

    /// Our end's address, as the server's log names it.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// If the connection ends, or the answer isn't one to this request.
    pub fn call<R: RequestMessage>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    /// Sends a request, and doesn't wait for its answer, which is to be received before the next request is sent.
    ///
    /// # Errors
    /// If the connection ends.
    pub fn send<R: RequestMessage>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.next_correlation_id += 1;
        let name = Some(Str::from("tests"));
        let mut frame = encode_request(self.next_correlation_id, name, version, request).map_err(invalid)?;
        while frame.has_remaining() {
            let mut slices = [io::IoSlice::new(&[]); 16];
            let count = frame.chunks_vectored(&mut slices);
            let written = self.stream.write_vectored(&slices[..count])?;
            frame.advance(written);
        }
        Ok(())
    }

    /// The answer to the request that was sent last.
    ///
    /// # Errors
    /// If the connection ends, or the answer isn't one to this request.
    pub fn receive<R: RequestMessage>(&mut self, version: i16) -> io::Result<R::Response> {
        let answer = self.read_frame()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (found, response) = decode_response(answer, version).map_err(invalid)?;
        let expected = self.next_correlation_id;
        if found != expected {
            return Err(io::Error::other(format!("answer {found} to request {expected}")));
        }
        Ok(response)
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// If the connection is closed.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame without its length; `None` if the connection was closed in between.
    ///
    /// # Errors
    /// If it ends within a frame, or nothing comes for too long.
    pub fn read_frame(&mut self) -> io::Result<Option<BytesMut>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            other => other?,
        }
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
        let mut frame = BytesMut::zeroed(length);
        self.stream.read_exact(&mut frame)?;
        Ok(Some(frame))
    }

    pub fn shutdown(&self, how: Shutdown) {
        self.stream.shutdown(how).expect("it is connected");
    }

    /// Whether the server closes the connection without another word.
    pub fn is_closed_by_peer(&mut self) -> bool {
        matches!(self.read_frame(), Ok(None))
    }

    /// # Errors
    /// If the connection fails.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> io::Result<ErrorCode> {
        let config = |&(name, value): &(&str, &str)| CreatableTopicConfig {
            name: Str::from(name),
            value: Some(Str::from(value)),
        };
        let topic = CreatableTopic {
            name: Str::from(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        Ok(self.call(CREATE_TOPICS_VERSION, &request)?.topics[0].error_code)
    }

    /// One batch into one partition, with acks=all.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: BytesMut) -> io::Result<PartitionProduceResponse> {
        let data = PartitionProduceData {
            index: partition,
            records: Some(batch),
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: Str::from(topic),
                partition_data: vec![data],
                ..Default::default()
            }],
            ..ProduceRequest::default()
        };
        let mut response = self.call(PRODUCE_VERSION, &request)?;
        Ok(response.responses.remove(0).partition_responses.remove(0))
    }

    /// What one fetch of one partition gives: the error, and the batches' bytes.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> io::Result<(ErrorCode, BytesMut)> {
        let wanted = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 8 << 20,
            topics: vec![FetchTopic {
                topic: Str::from(topic),
                partitions: vec![wanted],
                ..Default::default()
            }],
            ..FetchRequest::default()
        };
        let mut response = self.call(FETCH_VERSION, &request)?;
        let mut found = response.responses.remove(0).partitions.remove(0);
        let mut bytes = BytesMut::new();
        for piece in found.records.take().iter().flat_map(|records| records.pieces()) {
            bytes.extend_from_slice(piece);
        }
        Ok((found.error_code, bytes))
    }
}

fn invalid(error: tailwater_kafka::CodecError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A batch of these values, without keys, uncompressed.
pub fn batch(values: &[&[u8]]) -> BytesMut {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(1_700_000_000_000, None, Some(value), &[]);
    }
    batch.build()
}
