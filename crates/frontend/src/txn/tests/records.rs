//! Records of `__transaction_state` are Kafka's.

use crate::txn::record::{decode, encode};
use crate::txn::state::*;

fn state(phase: Phase) -> Transaction {
    Transaction {
        producer_id: 7,
        previous_producer_id: 6,
        next_producer_id: 8,
        epoch: 3,
        last_epoch: NO_EPOCH,
        timeout_ms: 60_000,
        phase,
        partitions: [("t", 1), ("t", 2), ("u", 0)]
            .map(|(topic, partition)| TopicPartition {
                topic: topic.to_owned(),
                partition,
            })
            .into(),
        start_ms: 1_700_000_000_000,
        updated_ms: 1_700_000_000_001,
        client_version: 2,
    }
}

/// Every phase reads back as what was written, and so does the end of an id.
#[test]
fn records_read_back() {
    for phase in Phase::ALL {
        let mut state = state(phase);
        if phase == Phase::Empty {
            state.partitions.clear();
        }
        let (key, value) = encode("tx", Some(&state)).unwrap();
        assert_eq!(
            decode(&key, value.as_deref()).unwrap(),
            Some(("tx".to_owned(), Some(state)))
        );
    }
    let (key, value) = encode("tx", None).unwrap();
    assert_eq!((&key[..], value), (&b"\0\0\0\x02tx"[..], None));
    assert_eq!(decode(&key, None).unwrap(), Some(("tx".to_owned(), None)));
    assert_eq!(
        decode(b"\0\x01\0\x02tx", None).unwrap(),
        None,
        "another type of key is passed over"
    );
}

fn become_of(decision: Decision) -> Transaction {
    match decision {
        Decision::Become(next) => next,
        other => panic!("nothing comes of it: {other:?}"),
    }
}

fn hex_of(id: &str, state: &Transaction) -> String {
    let (_, value) = encode(id, Some(state)).unwrap();
    value.unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What Apache Kafka 4.3.0 wrote down when the Java client initialised a producer, and when one began, committed and ended a
/// transaction of version 2.
#[test]
fn records_are_kafkas_bytes() {
    const MADE: &str = "000100000000000000030000000003e80000000001a218742950ffffffffffffffff0100080000000000000003";
    const BEGUN: &str = "0001000000000000000200040000ea6001020c74786e2d6a6176612d7231020000000000000001a2187423e4\
        000001a2187423e4020008000000000000000202020002";
    const DECIDED: &str = "0001000000000000000200050000ea6002020c74786e2d6a6176612d7231020000000000000001a2187423f0\
        000001a2187423e4020008000000000000000202020002";
    const DONE: &str =
        "0001000000000000000200050000ea600401000001a2187423f0000001a2187423e4020008000000000000000202020002";

    let made = become_of(Transaction::new(3, 0x1a2_1874_2950).init(1000, None, None, 0x1a2_1874_2950));
    assert_eq!(hex_of("txn-java-r1-short", &made), MADE);

    let before = Transaction {
        producer_id: 2,
        epoch: 4,
        next_producer_id: NO_ID,
        partitions: Default::default(),
        ..state(Phase::CompleteAbort)
    };
    let partition = TopicPartition {
        topic: "txn-java-r1".to_owned(),
        partition: 0,
    };
    let begun = become_of(before.add(before.producer(), &[partition].into(), 2, 0x1a2_1874_23e4));
    let decided = become_of(begun.end_with_new_epoch(begun.producer(), true, None, 0x1a2_1874_23f0));
    let done = decided.complete(0x1a2_1874_23f0);
    for (state, golden) in [(begun, BEGUN), (decided, DECIDED), (done, DONE)] {
        assert_eq!(hex_of("txn-java-r1", &state), golden);
    }
}

/// A state that Kafka never writes isn't taken for one that it does.
#[test]
fn damage_is_found() {
    let (key, value) = encode("tx", Some(&state(Phase::Ongoing))).unwrap();
    let mut value = value.unwrap().to_vec();
    // Version, producer id, epoch, timeout, then the state.
    value[2 + 8 + 2 + 4] = 7;
    assert!(decode(&key, Some(&value)).is_err());
    assert!(decode(&key, Some(&value[..5])).is_err());
}
