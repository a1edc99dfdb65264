//! A server on loopback, and a client that speaks in whole requests.

use bytes::{Bytes, BytesMut};
use tailwater_kafka::{RequestMessage, Str, decode_response, encode_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::protocol::{Protocol, bind};
use crate::testing::Fixture;

pub struct Server {
    pub fixture: Fixture,
    pub protocol: Protocol,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(mut config: Config) -> Self {
        config.server.listen = "127.0.0.1:0".to_owned();
        config.groups.offsets_topic_partitions = 3;
        config.transactions.state_topic_partitions = 3;
        config.groups.initial_rebalance_delay = tailwater_runtime::config::Millis(20);
        let bound = bind(&config).await.unwrap();
        let fixture = Fixture::with(config).await;
        let protocol = Protocol::start(bound, &fixture.data, None).unwrap();
        Self { fixture, protocol }
    }

    /// The process dies and another takes its place.
    pub async fn restart(mut self) -> Self {
        self.fixture.restart().await;
        let bound = bind(&self.fixture.data.config).await.unwrap();
        let protocol = Protocol::start(bound, &self.fixture.data, None).unwrap();
        Self {
            fixture: self.fixture,
            protocol,
        }
    }

    pub async fn connect(&self) -> Client {
        self.connect_to(0).await
    }

    /// Through a listener, the first being 0.
    pub async fn connect_to(&self, listener: usize) -> Client {
        let (_, address) = self.protocol.addresses()[listener];
        let stream = TcpStream::connect(address).await.unwrap();
        Client::of(stream)
    }
}

pub struct Client {
    pub stream: TcpStream,
    next_id: i32,
}

impl Client {
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, next_id: 1 }
    }

    pub async fn ask<R: RequestMessage>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(id, version).await
    }

    pub async fn send<R: RequestMessage>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        let frame = encode_request(id, Some(Str::from_static("test")), version, request).unwrap();
        self.stream.write_all(&frame.into_bytes()).await.unwrap();
        id
    }

    pub async fn receive<R: RequestMessage>(&mut self, id: i32, version: i16) -> R::Response {
        let frame = self.frame().await.expect("the server has closed the connection");
        let (answered, response) = decode_response::<R::Response>(BytesMut::from(&frame[..]), version).unwrap();
        assert_eq!(answered, id, "answered out of order");
        response
    }

    /// The next frame without its length; `None` at the end.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// Whether the server has closed the connection, with nothing more to say.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}
