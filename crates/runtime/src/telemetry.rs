//! Metrics: a registry that is handed around, and constructors that never fail a service.
//!
//! Owns: registration, shared labels, the text form. Does not own: which metrics exist (each crate's own), the HTTP
//! endpoint and log set-up (`node`).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
pub use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};
use prometheus::{HistogramOpts, Opts, TextEncoder};

/// Bucket bounds in seconds for anything from a flush to an object PUT.
pub const LATENCY_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Bucket bounds in bytes, from one small batch to the largest.
pub const SIZE_BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    134_217_728.0,
];

/// A registry and the labels that everything made through this handle carries.
///
/// Asking twice for the same name and labels gives the same metric. A name that can't be registered (malformed, or
/// taken by another type) is logged as an error and gives a metric that counts unseen: metrics never stop a service.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
    labels: BTreeMap<String, String>,
}

struct Shared {
    registry: Registry,
    made: Mutex<BTreeMap<String, Box<dyn Any + Send>>>,
}

impl Metrics {
    pub fn new() -> Self {
        let shared = Shared {
            registry: Registry::new(),
            made: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            labels: BTreeMap::new(),
        }
    }

    /// The same registry with one more label on everything made through the result.
    #[must_use]
    pub fn labelled(&self, label: &str, value: &str) -> Self {
        let mut labels = self.labels.clone();
        labels.insert(label.to_owned(), value.to_owned());
        Self {
            shared: self.shared.clone(),
            labels,
        }
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(name, help, IntCounter::with_opts)
    }

    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(name, help, |opts| IntCounterVec::new(opts, labels))
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(name, help, IntGauge::with_opts)
    }

    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(name, help, |opts| IntGaugeVec::new(opts, labels))
    }

    /// `buckets` are upper bounds, ascending; see [`LATENCY_SECONDS`] and [`SIZE_BYTES`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.register(name, help, |opts| Histogram::with_opts(histogram_opts(opts, buckets)))
    }

    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        self.register(name, help, |opts| {
            HistogramVec::new(histogram_opts(opts, buckets), labels)
        })
    }

    /// Everything registered, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.shared.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics can't be encoded");
        }
        text
    }

    fn register<M>(&self, name: &str, help: &str, make: impl Fn(Opts) -> prometheus::Result<M>) -> M
    where
        M: Collector + Clone + Send + 'static,
    {
        let opts = |name: &str| {
            self.labels.iter().fold(Opts::new(name, help), |opts, (label, value)| {
                opts.const_label(label, value)
            })
        };
        let key = format!("{name}{:?}", self.labels);
        let mut made = self.shared.made.lock();
        if let Some(metric) = made.get(&key).and_then(|any| any.downcast_ref::<M>()) {
            return metric.clone();
        }
        let registered = make(opts(name)).and_then(|metric| {
            self.shared.registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        });
        match registered {
            Ok(metric) => {
                made.insert(key, Box::new(metric.clone()));
                metric
            }
            Err(error) => {
                tracing::error!(name, %error, "metric can't be registered, it counts unseen");
                make(Opts::new("tailwater_unregistered", "unseen")).expect("this name is well formed")
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram_opts(opts: Opts, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts {
        common_opts: opts,
        buckets: buckets.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same name and labels give one metric; other labels give a sibling; the text shows both.
    #[test]
    fn the_same_metric_is_made_once() {
        let metrics = Metrics::new();
        let (a, b) = (metrics.labelled("pool", "a"), metrics.labelled("pool", "b"));
        a.counter("tailwater_test_total", "t").inc();
        a.counter("tailwater_test_total", "t").inc();
        b.counter("tailwater_test_total", "t").inc();
        let text = metrics.text();
        assert!(text.contains("tailwater_test_total{pool=\"a\"} 2"), "{text}");
        assert!(text.contains("tailwater_test_total{pool=\"b\"} 1"), "{text}");
    }

    /// A bad name, or a name of another type, still gives a metric that can be used.
    #[test]
    fn a_metric_that_cant_be_registered_counts_unseen() {
        let metrics = Metrics::new();
        metrics.counter("no spaces allowed", "t").inc();
        metrics.counter("tailwater_taken", "t").inc();
        metrics.gauge("tailwater_taken", "t").set(9);
        assert!(metrics.text().contains("tailwater_taken 1"));
    }
}
