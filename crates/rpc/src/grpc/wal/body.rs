//! gRPC messages as an HTTP body, made of byte runs that go out as they are.
//!
//! tonic's own encoder copies every message into a buffer; record bytes are worth a body of their own. Owns: the framing
//! of messages and the status at the end. Does not own: what is in a message (`pieces`).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::stream::BoxStream;
use http_body::Frame;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::http::{self, HeaderMap, HeaderValue};
use tonic::{Code, Status};

use super::Answered;

/// In front of every message: a flag (not compressed) and the length.
const PREFIX_BYTES: usize = 5;

/// Runs of bytes which together are whole messages, each with its prefix.
pub(super) type Runs = BoxStream<'static, Answered<Bytes>>;

/// A request's body: ends as `runs` do.
pub(super) fn request(runs: impl Stream<Item = Answered<Bytes>> + Send + 'static) -> Body {
    Body::new(RunsBody {
        runs: Box::pin(runs),
        side: Side::Client,
    })
}

/// A response with `runs`, and the status that they end with.
pub(super) fn response(runs: Runs) -> http::Response<Body> {
    let mut response = http::Response::new(Body::new(RunsBody {
        runs,
        side: Side::Server,
    }));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// `message` with its prefix.
pub(super) fn framed(message: &impl Message) -> Bytes {
    framed_together(std::slice::from_ref(message))
}

/// `messages` one behind the other, each with its prefix.
pub(super) fn framed_together(messages: &[impl Message]) -> Bytes {
    let framed_bytes = |message| PREFIX_BYTES + Message::encoded_len(message);
    let mut framed = BytesMut::with_capacity(messages.iter().map(framed_bytes).sum());
    for message in messages {
        put_prefix(message.encoded_len(), &mut framed);
        message
            .encode(&mut framed)
            .expect("there is room for what it says it takes");
    }
    framed.freeze()
}

/// The prefix of a message of `length` bytes.
pub(super) fn put_prefix(length: usize, out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("messages are far below 4 GiB"));
}

struct RunsBody {
    runs: Runs,
    side: Side,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
    /// The status is out.
    Ended,
}

impl http_body::Body for RunsBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answered<Frame<Bytes>>>> {
        if self.side == Side::Ended {
            return Poll::Ready(None);
        }
        let status = match std::task::ready!(self.runs.as_mut().poll_next(context)) {
            Some(Ok(run)) => return Poll::Ready(Some(Ok(Frame::data(run)))),
            Some(Err(status)) => status,
            None => Status::new(Code::Ok, ""),
        };
        if self.side == Side::Client {
            self.side = Side::Ended;
            return Poll::Ready((status.code() != Code::Ok).then_some(Err(status)));
        }
        self.side = Side::Ended;
        let mut trailers = HeaderMap::new();
        let added = status.add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.side == Side::Ended
    }
}
