//! When a journal is uploaded: pure, from what the WAL says.

use std::time::Duration;

use tailwater_rpc::wal::{JournalStatus, WalStatus};
use tailwater_types::Lsn;

use crate::Config;

/// On a device that fills up, a journal is taken from this part of `trigger_bytes` on,
const PRESSURE_FRACTION: u64 = 16;
/// or from this age.
const PRESSURE_AGE: Duration = Duration::from_secs(1);

/// What to do about a journal now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// There is nothing to upload.
    Nothing,
    /// There is something, but it is little and young.
    NotYet,
    Now,
}

/// Where the upload of a journal stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The first entry not uploaded yet.
    pub next: Lsn,
    /// The end of what may be uploaded.
    pub end: Lsn,
    pub sealed: bool,
    pub since_last_commit: Duration,
}

pub(crate) fn due(config: &Config, progress: Progress, device: &WalStatus, journal: Option<&JournalStatus>) -> Due {
    if progress.end <= progress.next {
        return Due::Nothing;
    }
    if progress.sealed {
        return Due::Now;
    }
    // Counted by LSNs, whatever the device has heard of.
    if progress.end.0 - progress.next.0 >= config.trigger_entries {
        return Due::Now;
    }
    let Some(journal) = journal else { return Due::NotYet };
    let max_age = config.trigger_age.as_duration();
    if journal.trim < progress.next {
        // Until the device has heard of the last commit, its figures are about what is uploaded already.
        return if progress.since_last_commit >= max_age {
            Due::Now
        } else {
            Due::NotYet
        };
    }
    let age = journal.oldest_age.unwrap_or_default();
    let full_percent = u128::from(device.used_bytes) * 100 / u128::from(device.capacity_bytes.max(1));
    let pressed = full_percent >= u128::from(config.trigger_device_percent);
    let trigger_bytes = config.trigger_bytes.0;
    let is_due = journal.bytes >= trigger_bytes
        || age >= max_age
        || pressed && (journal.bytes >= trigger_bytes / PRESSURE_FRACTION || age >= PRESSURE_AGE);
    if is_due { Due::Now } else { Due::NotYet }
}

#[cfg(test)]
mod tests {
    use tailwater_types::{DeviceId, JournalId};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn decide(bytes: u64, age_s: u64, used_percent: u64, change: impl FnOnce(&mut Progress)) -> Due {
        let journal = JournalStatus {
            journal: JournalId(1),
            trim: Lsn(5),
            commit: Lsn(9),
            durable: Lsn(9),
            sealed: false,
            bytes,
            oldest_age: Some(Duration::from_secs(age_s)),
        };
        let device = WalStatus {
            device: DeviceId::from_bytes([1; 16]),
            capacity_bytes: 1_000,
            used_bytes: used_percent * 10,
            journals: vec![],
        };
        let since_last_commit = Duration::from_secs(3);
        let mut progress = Progress {
            next: Lsn(5),
            end: Lsn(9),
            sealed: false,
            since_last_commit,
        };
        change(&mut progress);
        due(&Config::default(), progress, &device, Some(&journal))
    }

    /// Bytes, entries, age, a device half full and the journal's end each trigger; little young data on a device with room
    /// doesn't.
    #[test]
    fn each_trigger_triggers() {
        assert_eq!(decide(MIB, 1, 49, |_| {}), Due::NotYet);
        assert_eq!(decide(64 * MIB, 0, 0, |_| {}), Due::Now);
        assert_eq!(decide(1, 30, 0, |_| {}), Due::Now);
        assert_eq!(decide(4 * MIB, 0, 50, |_| {}), Due::Now);
        assert_eq!(decide(1, 1, 50, |_| {}), Due::Now);
        let entries = |entries: u64| decide(1, 0, 0, |progress| progress.end = Lsn(5 + entries));
        assert_eq!((entries(99_999), entries(100_000)), (Due::NotYet, Due::Now));
        assert_eq!(decide(1, 0, 0, |progress| progress.sealed = true), Due::Now);
    }

    /// A device that stays full for another journal's sake doesn't make this one upload each byte by itself.
    #[test]
    fn pressure_leaves_crumbs_alone() {
        assert_eq!(decide(1_000, 0, 99, |_| {}), Due::NotYet);
    }

    /// Without entries there is nothing to do, whatever the device says.
    #[test]
    fn nothing_is_nothing() {
        let done = |progress: &mut Progress| (progress.next, progress.sealed) = (Lsn(9), true);
        assert_eq!(decide(64 * MIB, 99, 99, done), Due::Nothing);
    }

    /// Figures from before the last commit count only when they are as old as anything may get.
    #[test]
    fn figures_before_the_last_commit_are_stale() {
        assert_eq!(decide(64 * MIB, 99, 0, |progress| progress.next = Lsn(6)), Due::NotYet);
        let late = |progress: &mut Progress| {
            (progress.next, progress.since_last_commit) = (Lsn(6), Duration::from_secs(30));
        };
        assert_eq!(decide(1, 0, 0, late), Due::Now);
        let many = |progress: &mut Progress| (progress.next, progress.end) = (Lsn(6), Lsn(100_006));
        assert_eq!(decide(1, 0, 0, many), Due::Now, "entries are counted without them");
    }
}
