//! A gRPC server on a listener, until it is told to stop.
//!
//! Owns: accepting, the server's limits, and its end: running calls get a moment, then their connections are cut, so that
//! neither a watcher nor a peer that is gone can hold a process up; and what a port's answer is to a service. Does not own: what
//! is served ([`Routes`]).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream;
use tailwater_runtime::{CancellationToken, Clock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Response, Status};

use super::error::to_status;
use super::peer::{
    CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_HEADER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::{Error, Result};

/// Calls and streams that one connection may have open.
const MAX_STREAMS: u32 = 1024;
/// What running calls have to come to their end after the stop.
const GRACE: Duration = Duration::from_secs(2);
/// How long to wait after the system has refused a connection, as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` on `listener` until `shutdown` is cancelled. When this answers every connection is closed.
///
/// # Errors
/// [`Error::Internal`] if the server ends by itself.
pub async fn serve(listener: TcpListener, routes: Routes, shutdown: CancellationToken, clock: Clock) -> Result<()> {
    let cut = CancellationToken::new();
    // Also when this future is dropped: the connections' tasks are not its own.
    let _all = cut.clone().drop_guard();
    let accept = Accept {
        listener,
        cut: cut.clone(),
        clock: clock.clone(),
        refused: false,
    };
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .serve_with_incoming_shutdown(
            routes.prepare(),
            stream::unfold(accept, Accept::next),
            shutdown.clone().cancelled_owned(),
        );
    let grace = async {
        shutdown.cancelled().await;
        clock.sleep(GRACE).await;
        cut.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        ended = server => ended.map_err(|error| Error::Internal(format!("the gRPC server ended: {error}"))),
        () = grace => unreachable!("cutting the connections ends the server"),
    }
}

/// What a service answers.
pub(super) type Served<T> = std::result::Result<Response<T>, Status>;

/// The port's answer as the service's.
pub(super) async fn served<T>(answer: impl Future<Output = Result<T>>) -> Served<T> {
    match answer.await {
        Ok(answer) => Ok(Response::new(answer)),
        Err(error) => Err(to_status(&error)),
    }
}

/// Where connections come from.
struct Accept {
    listener: TcpListener,
    cut: CancellationToken,
    clock: Clock,
    /// Whether the last one couldn't be taken.
    refused: bool,
}

impl Accept {
    async fn next(mut self) -> Option<(io::Result<Connection>, Self)> {
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) => {
                    self.refused = false;
                    // Only a peer that is gone already refuses this.
                    if socket.set_nodelay(true).is_err() {
                        continue;
                    }
                    let connection = Connection {
                        socket,
                        cut: Box::pin(self.cut.clone().cancelled_owned()),
                    };
                    return Some((Ok(connection), self));
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.refused, true) {
                        tracing::warn!(%error, "no connection can be taken; trying on");
                    }
                    self.clock.sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that can be cut from outside.
struct Connection {
    socket: TcpStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A connection always waits to read: this is where it is woken.
        if self.cut.as_mut().poll(cx).is_ready() {
            self.cut = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}
