//! What uploads count.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tailwater_rpc::wal::WalStatus;
use tailwater_runtime::Metrics;
use tailwater_runtime::telemetry::{Histogram, IntCounter, IntCounterVec, IntGauge, LATENCY_SECONDS};
use tailwater_types::{DeviceId, JournalId, Lsn};

pub(crate) struct UploadMetrics {
    pub lag: Lag,
    pub attempts: IntCounterVec,
    pub seconds: Histogram,
    pub bytes: IntCounter,
    pub objects: IntCounter,
}

impl UploadMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            lag: Lag {
                gauge: metrics.gauge(
                    "tailwater_upload_lag_bytes",
                    "Bytes of entries acknowledged and not yet in a committed object, on devices with a journal leased here",
                ),
                journals: Mutex::default(),
            },
            attempts: metrics.counter_vec(
                "tailwater_uploads_total",
                "Attempts to upload a run of entries; waiting: for a part of a stream that another journal has",
                &["result"],
            ),
            seconds: metrics.histogram(
                "tailwater_upload_seconds",
                "Time from reading a run of entries to its commit",
                LATENCY_SECONDS,
            ),
            bytes: metrics.counter("tailwater_upload_bytes_total", "Bytes of committed objects"),
            objects: metrics.counter("tailwater_upload_objects_total", "Objects committed"),
        }
    }
}

/// What isn't uploaded yet. Journals that nobody works on at the moment count too, since an owner's are uploaded one
/// after the other.
pub(crate) struct Lag {
    gauge: IntGauge,
    journals: Mutex<BTreeMap<JournalId, Held>>,
}

struct Held {
    device: DeviceId,
    /// Everything below is committed: a device that still counts it hasn't heard of that.
    committed: Lsn,
    bytes: u64,
}

impl Lag {
    /// Takes over what a device says about its journals.
    pub fn observe(&self, status: &WalStatus) {
        let mut journals = self.journals.lock();
        journals.retain(|id, held| {
            held.device != status.device || status.journals.iter().any(|journal| journal.journal == *id)
        });
        for journal in &status.journals {
            let (device, bytes) = (status.device, journal.bytes);
            let unknown = Held {
                device,
                committed: journal.trim,
                bytes,
            };
            let held = journals.entry(journal.journal).or_insert(unknown);
            if journal.trim >= held.committed {
                *held = Held {
                    device,
                    committed: journal.trim,
                    bytes,
                };
            }
        }
        self.show(&journals);
    }

    /// `entry_bytes` of a journal, up to `end`, are committed.
    pub fn committed(&self, journal: JournalId, end: Lsn, entry_bytes: u64) {
        let mut journals = self.journals.lock();
        if let Some(held) = journals.get_mut(&journal) {
            held.committed = end;
            held.bytes = held.bytes.saturating_sub(entry_bytes);
        }
        self.show(&journals);
    }

    /// All of a sealed journal is committed.
    pub fn finished(&self, journal: JournalId) {
        let mut journals = self.journals.lock();
        journals.remove(&journal);
        self.show(&journals);
    }

    fn show(&self, journals: &BTreeMap<JournalId, Held>) {
        let bytes: u64 = journals.values().map(|held| held.bytes).sum();
        self.gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use tailwater_rpc::wal::JournalStatus;

    use super::*;

    fn status(journals: &[(u64, u64, u64)]) -> WalStatus {
        let journal = |&(journal, trim, bytes): &(u64, u64, u64)| JournalStatus {
            journal: JournalId(journal),
            trim: Lsn(trim),
            commit: Lsn(99),
            durable: Lsn(99),
            sealed: false,
            bytes,
            oldest_age: None,
        };
        WalStatus {
            device: DeviceId::from_bytes([1; 16]),
            capacity_bytes: 1,
            used_bytes: 1,
            journals: journals.iter().map(journal).collect(),
        }
    }

    /// All journals of a device count, from a commit on without what it covers, even before the device knows.
    #[test]
    fn lag_follows_commits_and_devices() {
        let lag = UploadMetrics::new(&Metrics::new()).lag;
        lag.observe(&status(&[(1, 0, 100), (2, 0, 10)]));
        assert_eq!(lag.gauge.get(), 110);
        lag.committed(JournalId(1), Lsn(5), 70);
        assert_eq!(lag.gauge.get(), 40);
        lag.observe(&status(&[(1, 0, 105), (2, 0, 10)]));
        assert_eq!(lag.gauge.get(), 40, "the device hasn't heard of the commit");
        lag.observe(&status(&[(1, 5, 35), (2, 0, 10)]));
        assert_eq!(lag.gauge.get(), 45);
        lag.finished(JournalId(1));
        assert_eq!(lag.gauge.get(), 10);
        lag.observe(&status(&[]));
        assert_eq!(lag.gauge.get(), 0);
    }
}
