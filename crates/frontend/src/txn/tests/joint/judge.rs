//! What must hold when everything has come to rest.

use std::collections::BTreeMap;

use tailwater_kafka::batch::TransactionEnd;

use super::partition::{Entry, Leader};
use super::world::{OFFSETS, World};

/// A transaction as its producer knows it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Which partition each of its batches is for.
    pub batches: Vec<usize>,
    pub version: i16,
    pub is_commit_asked: bool,
    /// How it was told that it has ended.
    pub told: Option<bool>,
}

/// What a run has met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    pub elections: u64,
    pub failovers: u64,
    pub lost_batches: u64,
    pub decided: u64,
    pub timeouts: u64,
    pub partial_rounds: u64,
    pub guards_lost: u64,
    pub refused: u64,
    pub duplicates: u64,
    pub markers_refused: u64,
    pub deaths: u64,
    pub committed: u64,
    pub aborted: u64,
    /// Committed and acknowledged, by versions 1 and 2.
    pub acknowledged: [u64; 2],
}

impl Report {
    fn numbers(&mut self) -> [&mut u64; 16] {
        let Self {
            events,
            elections,
            failovers,
            lost_batches,
            decided,
            timeouts,
            partial_rounds,
            guards_lost,
            refused,
            duplicates,
            markers_refused,
            deaths,
            committed,
            aborted,
            acknowledged: [first, second],
        } = self;
        [
            events,
            elections,
            failovers,
            lost_batches,
            decided,
            timeouts,
            partial_rounds,
            guards_lost,
            refused,
            duplicates,
            markers_refused,
            deaths,
            committed,
            aborted,
            first,
            second,
        ]
    }

    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        let pairs = self.numbers().into_iter().zip(other.numbers());
        pairs.for_each(|(sum, one)| *sum += *one);
    }

    /// # Panics
    /// If something never happened: then it wasn't tested.
    pub fn has_met_everything(&mut self) {
        let text = format!("{self:?}");
        assert!(self.numbers().into_iter().all(|number| *number > 0), "{text}");
    }
}

/// How each batch of each transaction ended: (transaction, batch) and whether it was committed.
type Ends = BTreeMap<(u32, u32), Vec<bool>>;

/// # Errors
/// What is broken.
pub fn judge(world: &World) -> Result<Report, String> {
    let mut ends = Ends::new();
    for (partition, leaders) in world.leaders.iter().enumerate() {
        let leader = leaders.last().expect("there is one");
        partition_holds(leader, &mut ends).map_err(|broken| format!("partition {partition}: {broken}"))?;
        let found = leader.read_committed(leader.stable);
        if !found.starts_with(&world.read[partition]) {
            return Err(format!("partition {partition}: what was read is gone"));
        }
    }
    for id in 0..super::world::IDS {
        if let Some(state) = world.committed_state(id)
            && (state.phase.is_ending() || state.phase == crate::txn::state::Phase::Ongoing)
        {
            return Err(format!("{state:?} is never ended"));
        }
    }
    let mut report = world.report.clone();
    for (transaction, told) in &world.told {
        let of = |batch: usize| ends.get(&(*transaction, batch as u32)).cloned().unwrap_or_default();
        let all: Vec<Vec<bool>> = (0..told.batches.len()).map(of).collect();
        let is_committed = all.iter().flatten().any(|is_commit| *is_commit);
        report.committed += u64::from(is_committed);
        report.aborted += u64::from(!is_committed);
        let broken = |what: &str| Err(format!("transaction {transaction}: {what}: {told:?}, {all:?}"));
        if is_committed {
            let is_once = |(ends, partition): (&Vec<bool>, &usize)| {
                ends.iter().all(|is_commit| *is_commit)
                    && (ends.len() == 1 || !ends.is_empty() && *partition == OFFSETS)
            };
            if !told.is_commit_asked {
                return broken("committed, and nobody has asked for it");
            }
            if !all.iter().zip(&told.batches).all(is_once) {
                return broken("read in part, or twice");
            }
        }
        match told.told {
            Some(true) if !is_committed => return broken("acknowledged, and not committed"),
            Some(false) if is_committed => return broken("committed, and said to be aborted"),
            Some(true) => report.acknowledged[usize::from(told.version >= 2)] += 1,
            _ => {}
        }
    }
    Ok(report)
}

fn partition_holds(leader: &Leader, ends: &mut Ends) -> Result<(), String> {
    let mut open: BTreeMap<i64, Vec<&Entry>> = BTreeMap::new();
    let mut coordinators: BTreeMap<i64, i32> = BTreeMap::new();
    let mut committed = Vec::new();
    for entry in &leader.log {
        let header = &entry.header;
        let Some(marker) = entry.marker else {
            let batches = open.entry(header.producer_id).or_default();
            if let Some(first) = batches.first()
                && (first.header.producer_epoch != header.producer_epoch || first.tag.0 != entry.tag.0)
            {
                return Err(format!("{entry:?} is in the transaction of {first:?}"));
            }
            batches.push(entry);
            continue;
        };
        let newest = coordinators.entry(header.producer_id).or_insert(-1);
        if marker.coordinator_epoch < *newest {
            return Err(format!("{entry:?} is of a coordinator that was deposed by {newest}"));
        }
        *newest = marker.coordinator_epoch;
        for ended in open.remove(&header.producer_id).unwrap_or_default() {
            if ended.header.producer_epoch > header.producer_epoch {
                return Err(format!("{entry:?} ends {ended:?}"));
            }
            let is_commit = marker.end == TransactionEnd::Commit;
            ends.entry(ended.tag).or_default().push(is_commit);
            if is_commit {
                committed.push((ended.header.base_offset, ended.tag));
            }
        }
    }
    if let Some(batches) = open.values().next() {
        return Err(format!("{:?} is never decided", batches[0]));
    }
    let end = leader.state.end();
    if (leader.committed, leader.stable) != (end, end) {
        return Err(format!("stable to {} of {}", leader.stable, end));
    }
    committed.sort_unstable();
    let committed: Vec<_> = committed.into_iter().map(|(_, tag)| tag).collect();
    let found = leader.read_committed(end);
    if found != committed {
        return Err(format!("a reader sees {found:?} of {committed:?}"));
    }
    Ok(())
}
