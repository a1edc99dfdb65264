//! Which calls of other frontends are still wanted: a call may arrive when its caller has long given it up, over a connection
//! that hung, and must change nothing then.
//!
//! Owns: the order of each caller's calls ([`CallOrder`]), and that what is under way ends with its caller's interest. Does
//! not own: what calls do. Kept in memory: a call to an earlier process of this node doesn't reach this one.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tailwater_rpc::frontend::{CallOrder, Peer};
use tailwater_rpc::{Error, Result};
use tailwater_runtime::CancellationToken;
use tailwater_types::{NodeEpoch, NodeId};

/// Every caller's; bounded by the number of frontends and of the calls that each makes while one of them is under way.
#[derive(Default)]
pub(super) struct Calls {
    by_caller: Mutex<BTreeMap<NodeId, Caller>>,
}

struct Caller {
    epoch: NodeEpoch,
    over_below: u64,
    /// Those that have arrived of the others; `None`: it has been done.
    arrived: BTreeMap<u64, Option<CancellationToken>>,
}

/// A call under way; it ends when this is dropped.
pub(super) struct Call<'a> {
    calls: &'a Calls,
    from: Peer,
    number: u64,
    given_up: CancellationToken,
}

impl Calls {
    /// A call has arrived.
    ///
    /// # Errors
    /// It is over for its caller, has arrived before, or the caller has registered anew since. It has changed nothing.
    pub fn begin(&self, from: Peer, order: CallOrder) -> Result<Call<'_>> {
        let mut by_caller = self.by_caller.lock();
        let caller = by_caller
            .entry(from.node)
            .or_insert_with(|| Caller::new(from.node_epoch));
        if from.node_epoch > caller.epoch {
            caller.give_up_below(u64::MAX);
            *caller = Caller::new(from.node_epoch);
        }
        if from.node_epoch < caller.epoch {
            return Err(Error::NodeEpochStale {
                node: from.node,
                carried: from.node_epoch,
                registered: caller.epoch,
            });
        }
        let CallOrder { number, over_below } = order;
        let given_up = CancellationToken::new();
        if !order.is_unknown() {
            caller.give_up_below(over_below);
            if number < caller.over_below || caller.arrived.contains_key(&number) {
                return Err(Error::Invalid(format!("call {number} of {} is over", from.node)));
            }
            caller.arrived.insert(number, Some(given_up.clone()));
        }
        Ok(Call {
            calls: self,
            from,
            number,
            given_up,
        })
    }
}

impl Caller {
    fn new(epoch: NodeEpoch) -> Self {
        Self {
            epoch,
            over_below: 0,
            arrived: BTreeMap::new(),
        }
    }

    fn give_up_below(&mut self, over_below: u64) {
        self.over_below = self.over_below.max(over_below);
        while let Some(oldest) = self.arrived.first_entry().filter(|call| *call.key() < self.over_below) {
            if let Some(under_way) = oldest.remove() {
                under_way.cancel();
            }
        }
    }
}

impl Call<'_> {
    /// Waits until the caller has given it up. Cancellation-safe.
    pub async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut by_caller = self.calls.by_caller.lock();
        let caller = by_caller.get_mut(&self.from.node);
        let caller = caller.filter(|caller| caller.epoch == self.from.node_epoch);
        if let Some(call) = caller.and_then(|caller| caller.arrived.get_mut(&self.number)) {
            *call = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(epoch: u64) -> Peer {
        Peer {
            node: NodeId(2),
            node_epoch: NodeEpoch(epoch),
        }
    }

    fn order(number: u64, over_below: u64) -> CallOrder {
        CallOrder { number, over_below }
    }

    /// A call that its caller has given up is refused when it arrives; those that overtake each other aren't.
    #[test]
    fn a_call_that_is_over_is_refused() {
        let calls = Calls::default();
        let second = calls.begin(from(1), order(2, 1)).expect("wanted");
        drop(calls.begin(from(1), order(1, 1)).expect("overtaken, and wanted"));
        drop(second);
        drop(calls.begin(from(1), order(4, 3)).expect("wanted"));
        assert!(matches!(calls.begin(from(1), order(2, 1)), Err(Error::Invalid(_))));
        drop(calls.begin(from(1), order(3, 1)).expect("wanted"));
        assert!(
            matches!(calls.begin(from(1), order(3, 1)), Err(Error::Invalid(_))),
            "it has arrived before"
        );
        drop(calls.begin(from(1), order(5, 5)).expect("wanted"));
        assert_eq!(
            calls.by_caller.lock()[&NodeId(2)].arrived.len(),
            1,
            "what is over is forgotten"
        );
    }

    /// A call under way ends when its caller has given it up; the others go on.
    #[test]
    fn a_call_ends_with_its_caller_s_interest() {
        let calls = Calls::default();
        let old = calls.begin(from(1), order(1, 1)).expect("wanted");
        let other = calls.begin(from(1), order(2, 1)).expect("wanted");
        let next = calls.begin(from(1), order(3, 2)).expect("wanted");
        let ended = [&old, &other, &next].map(|call| call.given_up.is_cancelled());
        assert_eq!(ended, [true, false, false]);
    }

    /// Who has registered anew counts from the start, and nothing of its former life is done any more.
    #[test]
    fn a_later_registration_ends_all_earlier_calls() {
        let calls = Calls::default();
        let old = calls.begin(from(1), order(7, 7)).expect("wanted");
        let new = calls.begin(from(2), order(1, 1)).expect("wanted");
        assert!(old.given_up.is_cancelled() && !new.given_up.is_cancelled());
        let late = calls.begin(from(1), order(8, 7));
        assert!(matches!(
            late,
            Err(Error::NodeEpochStale {
                registered: NodeEpoch(2),
                ..
            })
        ));
        drop(old);
        assert!(
            calls.by_caller.lock()[&NodeId(2)].arrived[&1].is_some(),
            "the new one's goes on"
        );
    }

    /// A caller of an earlier version numbers nothing, and is served.
    #[test]
    fn calls_without_a_number_are_served() {
        let calls = Calls::default();
        drop(calls.begin(from(1), order(5, 5)).expect("wanted"));
        drop(calls.begin(from(1), CallOrder::default()).expect("not numbered"));
    }
}
