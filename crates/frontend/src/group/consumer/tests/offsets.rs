//! Who may commit and fetch offsets.

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::consumer::offsets::Claim;

/// The table of Kafka 4.3 with KIP-1251: a member's own epoch, an older one for what it has had since, nobody else.
#[test]
fn commits_need_the_members_epoch() {
    let mut h = Harness::new(&[("t", 4)]);
    let nobody = Claim {
        member_id: "",
        epoch: -1,
        knows_epochs: true,
    };
    let at = |partition| [(Some(id_of("t")), partition)].into_iter();
    assert_eq!(
        h.group.state().check_commit(nobody, at(0)),
        Ok(()),
        "nobody is a member"
    );
    let mut clients = vec![Client::join(&mut h, "a", &["t"]), Client::join(&mut h, "b", &["t"])];
    h.settle(&mut clients);
    let state = h.group.state();
    let claim = |epoch| Claim {
        member_id: "a",
        epoch,
        knows_epochs: true,
    };
    let kept = *clients[0].has[&id_of("t")].first().unwrap();
    let given = *clients[1].has[&id_of("t")].first().unwrap();
    assert_eq!(clients[0].epoch, 2);
    let cases = [
        (claim(2), kept, Ok(())),
        (claim(2), given, Ok(())),
        (claim(3), kept, Err(ErrorCode::StaleMemberEpoch)),
        (claim(1), kept, Ok(())),
        (claim(1), given, Err(ErrorCode::StaleMemberEpoch)),
        (claim(-1), kept, Err(ErrorCode::StaleMemberEpoch)),
        (
            Claim {
                knows_epochs: false,
                ..claim(2)
            },
            kept,
            Err(ErrorCode::UnsupportedVersion),
        ),
        (
            Claim {
                member_id: "x",
                ..claim(2)
            },
            kept,
            Err(ErrorCode::UnknownMemberId),
        ),
        (nobody, kept, Err(ErrorCode::UnknownMemberId)),
        // Since epoch 2 only.
        (
            Claim {
                member_id: "b",
                ..claim(1)
            },
            given,
            Err(ErrorCode::StaleMemberEpoch),
        ),
    ];
    for (claim, partition, expected) in cases {
        assert_eq!(
            state.check_commit(claim, at(partition)),
            expected,
            "{claim:?} {partition}"
        );
    }
    assert_eq!(state.check_fetch(None, -1), Ok(()));
    assert_eq!(state.check_fetch(Some("a"), 2), Ok(()));
    assert_eq!(state.check_fetch(Some("a"), 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(state.check_fetch(Some("x"), 1), Err(ErrorCode::UnknownMemberId));
}
