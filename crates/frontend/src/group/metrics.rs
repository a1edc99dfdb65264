//! The group coordinators' metrics.

use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{IntCounter, IntGauge};

#[derive(Clone)]
pub(super) struct GroupMetrics {
    pub groups: IntGauge,
    pub rebalances: IntCounter,
    pub coordinators: IntGauge,
    pub loading: IntGauge,
    pub failed: IntGauge,
}

impl GroupMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            groups: metrics.gauge("tailwater_frontend_groups", "Consumer groups that are coordinated here"),
            rebalances: metrics.counter(
                "tailwater_frontend_group_rebalances_total",
                "Generations of consumer groups that got their assignment",
            ),
            coordinators: metrics.gauge(
                "tailwater_frontend_group_coordinators",
                "Partitions of __consumer_offsets whose groups are coordinated here",
            ),
            loading: metrics.gauge(
                "tailwater_frontend_group_coordinators_loading",
                "Partitions of __consumer_offsets that are still being read, whose clients wait",
            ),
            failed: metrics.gauge(
                "tailwater_frontend_group_coordinators_failed",
                "Partitions of __consumer_offsets whose coordinator failed and has not served since: their groups stand still",
            ),
        }
    }
}
