//! The transaction coordinators' metrics.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{IntCounter, IntGauge};

use super::running::RunningGauges;

#[derive(Clone)]
pub(super) struct TxnMetrics {
    pub ids: IntGauge,
    pub running: RunningGauges,
    pub committed: IntCounter,
    pub aborted: IntCounter,
    pub marker_repeats: IntCounter,
    pub coordinators: IntGauge,
    pub loading: IntGauge,
    pub failed: IntGauge,
}

impl TxnMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            running: RunningGauges::new(metrics),
            ids: metrics.gauge(
                "tailwater_frontend_transactional_ids",
                "Transactional ids that are coordinated here",
            ),
            committed: metrics.counter(
                "tailwater_frontend_transactions_committed_total",
                "Transactions that were decided to be committed here",
            ),
            aborted: metrics.counter(
                "tailwater_frontend_transactions_aborted_total",
                "Transactions that were decided to be aborted here, for whatever reason",
            ),
            marker_repeats: metrics.counter(
                "tailwater_frontend_transaction_marker_repeats_total",
                "Times that partitions had to be told again how a transaction ended",
            ),
            coordinators: metrics.gauge(
                "tailwater_frontend_transaction_coordinators",
                "Partitions of __transaction_state whose transactional ids are coordinated here",
            ),
            loading: metrics.gauge(
                "tailwater_frontend_transaction_coordinators_loading",
                "Partitions of __transaction_state that are still being read, whose clients wait",
            ),
            failed: metrics.gauge(
                "tailwater_frontend_transaction_coordinators_failed",
                "Partitions of __transaction_state whose coordinator failed and has not served since: their producers wait",
            ),
        }
    }
}
