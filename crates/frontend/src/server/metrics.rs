//! The server's metrics.

use std::time::Duration;

use tailwater_kafka::{ApiKey, ErrorCode};
use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{Histogram, IntCounter, IntCounterVec, IntGauge, LATENCY_SECONDS};

#[derive(Clone)]
pub(crate) struct ServerMetrics {
    pub connections: IntGauge,
    pub accepted_connections: IntCounter,
    pub refused_connections: IntCounter,
    pub idle_connections: IntCounter,
    pub accept_failures: IntCounter,
    pub received_bytes: IntCounter,
    pub sent_bytes: IntCounter,
    over_limit: IntCounterVec,
    errors: IntCounterVec,
    /// In the order of [`ApiKey::ALL`]; a histogram's count is the number of requests.
    latency: Vec<Histogram>,
}

impl ServerMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let latency = metrics.histogram_vec(
            "tailwater_frontend_request_seconds",
            "Time from a request's arrival to its answer's last byte, by API",
            &["api"],
            LATENCY_SECONDS,
        );
        let latency = ApiKey::ALL
            .iter()
            .map(|api| latency.with_label_values(&[&format!("{api:?}")]));
        Self {
            connections: metrics.gauge("tailwater_frontend_connections", "Open client connections"),
            accepted_connections: metrics
                .counter("tailwater_frontend_connections_total", "Client connections accepted"),
            refused_connections: metrics.counter(
                "tailwater_frontend_connections_refused_total",
                "Client connections closed for what the client sent",
            ),
            idle_connections: metrics.counter(
                "tailwater_frontend_connections_idle_total",
                "Client connections closed for having been idle too long",
            ),
            accept_failures: metrics.counter(
                "tailwater_frontend_accept_failures_total",
                "Attempts to accept a connection that failed, mostly for want of file descriptors",
            ),
            over_limit: metrics.counter_vec(
                "tailwater_frontend_connections_over_limit_total",
                "Client connections closed at once, by the limit: all, ip",
                &["limit"],
            ),
            received_bytes: metrics.counter("tailwater_frontend_received_bytes_total", "Bytes of requests"),
            sent_bytes: metrics.counter("tailwater_frontend_sent_bytes_total", "Bytes of answers"),
            errors: metrics.counter_vec(
                "tailwater_frontend_errors_total",
                "Errors in answers other than Produce's and Fetch's, by API and Kafka's error",
                &["api", "error"],
            ),
            latency: latency.collect(),
        }
    }

    /// Counts a connection that a limit stood against.
    pub fn over_limit(&self, limit: &str) {
        self.over_limit.with_label_values(&[limit]).inc();
    }

    pub fn answered(&self, api: ApiKey, after: Duration) {
        if let Some(at) = ApiKey::ALL.iter().position(|known| *known == api) {
            self.latency[at].observe(after.as_secs_f64());
        }
    }

    /// Counts what an answer says has gone wrong.
    pub fn failed(&self, api: ApiKey, error: ErrorCode) {
        if error.is_error() {
            self.errors
                .with_label_values(&[&format!("{api:?}"), &format!("{error:?}")])
                .inc();
        }
    }
}
