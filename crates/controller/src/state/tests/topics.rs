use tailwater_rpc::Error;

use super::*;

/// Kafka's rules for names and counts; what is only validated isn't created.
#[test]
fn topics_are_checked() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let long = "x".repeat(249);
    let too_long = "x".repeat(250);
    let id = TopicId::from_bytes([3; 16]);
    let mut create = |topic: &NewTopic| machine.run(|tx| catalog::create_topic(tx, caller, id, topic));
    for name in ["", ".", "..", "a/b", "a b", "ä", "a\0", &too_long] {
        let refused = create(&topic(name, 1));
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name:?}");
    }
    for count in [-1, 0, 10_001] {
        assert!(matches!(create(&topic("a", count)), Err(Error::Invalid(_))), "{count}");
    }
    let mut large = topic("a", 1);
    large.configs.insert("k".to_owned(), "v".repeat(70_000));
    assert!(matches!(create(&large), Err(Error::Invalid(_))));
    for name in ["a", "...", "A-z_0.9", &long] {
        let only = NewTopic {
            validate_only: true,
            ..topic(name, 1)
        };
        assert!(create(&only).is_ok(), "{name}");
    }
    assert!(create(&topic("a.b", 1)).is_ok());
    for name in ["a.b", "a_b"] {
        assert_eq!(
            create(&topic(name, 1)),
            Err(Error::AlreadyExists("topic a.b".to_owned()))
        );
    }
}

/// Leaders are spread over the active frontends; a name is free again, with other streams, once its topic is deleted.
#[test]
fn topics_are_placed_and_deleted() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    machine.register(2, Tier::Frontend, 1);
    let id = machine.topic(caller, "a", 600);
    let leaders = |machine: &Machine, node| {
        let epoch = machine.state.node(NodeId(node)).unwrap().epoch;
        machine.state.index().led(Some((NodeId(node), epoch)))
    };
    assert_eq!((leaders(&machine, 1), leaders(&machine, 2)), (300, 300));
    machine.run(|tx| catalog::delete_topic(tx, caller, id)).unwrap();
    assert_eq!((leaders(&machine, 1), leaders(&machine, 2)), (0, 0));
    assert_eq!(streams::blocks(&machine.state).count(), 0);
    let again = machine.run(|tx| catalog::delete_topic(tx, caller, id));
    assert!(matches!(again, Err(Error::NotFound(_))));
    machine.topic(caller, "a", 1);
    assert!(machine.state.row(StreamId(600)).is_some());
}

/// A topic without a frontend to lead it waits for one.
#[test]
fn streams_wait_for_a_frontend() {
    let mut machine = Machine::new();
    let compactor = machine.register(201, Tier::Compactor, 1);
    machine.topic(compactor, "a", 2);
    machine.chores();
    assert_eq!(machine.state.row(StreamId(0)).unwrap().leader, None);
    let frontend = machine.register(1, Tier::Frontend, 1);
    machine.chores();
    let row = machine.state.row(StreamId(1)).unwrap();
    assert_eq!(row.leader, Some((NodeId(1), frontend.node_epoch)));
}

/// The largest topic is one atomic change; the failover of many streams is several, each within the bounds ([`Machine::run`]
/// checks them), and ends with every stream led.
#[test]
fn many_streams_stay_within_one_change() {
    let mut machine = Machine::new();
    let first = machine.register(1, Tier::Frontend, 1);
    for topic in 0..6 {
        machine.topic(first, &format!("t{topic}"), 10_000);
    }
    machine.register(2, Tier::Frontend, 1);
    let third = machine.register(3, Tier::Frontend, 1);
    let second = machine.state.node(NodeId(2)).unwrap().epoch;
    machine.pass(LEASE + SECOND);
    for (node, node_epoch) in [(NodeId(2), second), (NodeId(3), third.node_epoch)] {
        let caller = Caller {
            node,
            node_epoch,
            ..third
        };
        machine
            .run(|tx| nodes::heartbeat(tx, caller, &Heartbeat::default()))
            .unwrap();
    }
    machine.chore(nodes::expire);
    assert!(machine.chore(streams::place) > 3);
    let index = machine.state.index();
    let led = |node, epoch| index.led(Some((NodeId(node), epoch)));
    assert_eq!((led(2, second), led(3, third.node_epoch)), (30_000, 30_000));
    let id = index.topic("t3").unwrap();
    machine.run(|tx| catalog::delete_topic(tx, third, id)).unwrap();
    assert_eq!(machine.rebuilt(), machine.state);
}

/// Producer ids are never given out twice.
#[test]
fn producer_ids_are_disjoint() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let first = machine.run(|tx| catalog::allocate_producer_ids(tx, caller)).unwrap();
    machine.state = machine.rebuilt();
    let second = machine.run(|tx| catalog::allocate_producer_ids(tx, caller)).unwrap();
    assert_eq!((first.first, first.count), (0, 1000));
    assert_eq!((second.first, second.count), (1000, 1000));
}
