//! The HTTP port: `/healthz` (the process runs), `/readyz` (it takes traffic), `/metrics` (Prometheus).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tailwater_runtime::{Metrics, Policy, Tasks};
use tokio::net::TcpListener;

use crate::process;

/// Whether traffic is taken; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

/// Listens and serves until `tasks` stops; answers the bound address.
///
/// # Errors
/// If the address can't be bound.
pub async fn start(
    listen: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    tasks: &Tasks,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("HTTP address {listen} can't be bound"))?;
    let address = listener.local_addr().context("the HTTP listener has no address")?;
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Shared { readiness, metrics });
    tasks.spawn("http", Policy::LOGGED_ABORT, async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP port has failed");
        }
    });
    Ok(address)
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.readiness.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    let text = shared.metrics.text() + &process::metrics_text();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}
