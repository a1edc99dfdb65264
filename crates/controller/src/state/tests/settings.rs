use tailwater_rpc::Error;

use super::*;

fn set(name: &str, value: &str) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        op: ConfigOp::Set(value.to_owned()),
    }
}

fn delete(name: &str) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        op: ConfigOp::Delete,
    }
}

fn alter(resource: ConfigResource, changes: Vec<ConfigChange>) -> AlterConfigs {
    AlterConfigs {
        resource,
        changes: ConfigChanges::Incremental(changes),
        validate_only: false,
    }
}

impl Machine {
    fn alter(&mut self, caller: Caller, request: &AlterConfigs) -> Result<MetadataVersion> {
        self.run(|tx| configs::alter(tx, caller, request))
    }

    fn topic_configs(&self, topic: TopicId) -> Vec<(&str, &str)> {
        let configs = &self.state.topic(topic).unwrap().configs;
        configs.iter().map(|(name, value)| (&**name, &**value)).collect()
    }
}

/// Each sort of change is applied to what is set then, in order; what isn't named stays.
#[test]
fn changes_are_applied_to_the_newest_state() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let topic = machine.topic(caller, "a", 1);
    let of_topic = |changes| alter(ConfigResource::Topic(topic), changes);
    let list = |op: fn(Vec<String>, String) -> ConfigOp, items: &[&str]| ConfigChange {
        name: "cleanup.policy".to_owned(),
        op: op(
            items.iter().map(|item| (*item).to_owned()).collect(),
            "delete".to_owned(),
        ),
    };
    let append = |items: &[&str]| list(|items, unset| ConfigOp::Append { items, unset }, items);
    let subtract = |items: &[&str]| list(|items, unset| ConfigOp::Subtract { items, unset }, items);
    machine
        .alter(caller, &of_topic(vec![set("x", "1"), append(&["compact"])]))
        .unwrap();
    assert_eq!(
        machine.topic_configs(topic),
        [("cleanup.policy", "delete,compact"), ("x", "1")]
    );
    machine
        .alter(
            caller,
            &of_topic(vec![append(&["compact", "delete"]), subtract(&["delete"])]),
        )
        .unwrap();
    assert_eq!(
        machine.topic_configs(topic),
        [("cleanup.policy", "compact"), ("x", "1")]
    );
    machine
        .alter(
            caller,
            &of_topic(vec![subtract(&["compact"]), delete("x"), set("y", "2")]),
        )
        .unwrap();
    assert_eq!(machine.topic_configs(topic), [("cleanup.policy", ""), ("y", "2")]);
    let whole = AlterConfigs {
        changes: ConfigChanges::Replace([("z".to_owned(), "3".to_owned())].into()),
        ..of_topic(Vec::new())
    };
    machine.alter(caller, &whole).unwrap();
    assert_eq!(machine.topic_configs(topic), [("z", "3")]);
}

/// A check, a change to what is set already, and a refusal change nothing, not even the version.
#[test]
fn what_changes_nothing_has_no_version() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let topic = machine.topic(caller, "a", 1);
    let broker = alter(ConfigResource::Broker(None), vec![set("x", "1")]);
    let first = machine.alter(caller, &broker).unwrap();
    assert_eq!(first, machine.state.version());
    assert_eq!(machine.alter(caller, &broker), Ok(first));
    let check = AlterConfigs {
        validate_only: true,
        ..alter(ConfigResource::Topic(topic), vec![set("x", "1")])
    };
    assert_eq!(machine.alter(caller, &check), Ok(first));
    assert!(machine.topic_configs(topic).is_empty());
    let long = alter(
        ConfigResource::Topic(topic),
        vec![set("y", "1"), set("x", &"v".repeat(70_000))],
    );
    assert!(matches!(machine.alter(caller, &long), Err(Error::Invalid(_))));
    assert!(machine.topic_configs(topic).is_empty(), "all of it or nothing");
    let missing = alter(ConfigResource::Topic(TopicId::from_bytes([5; 16])), vec![set("x", "1")]);
    assert!(matches!(machine.alter(caller, &missing), Err(Error::NotFound(_))));
    assert_eq!(machine.state.version(), first);
}

/// Settings of each owner survive a start from the store; an owner of whom nothing is set any more is forgotten.
#[test]
fn settings_are_kept_by_their_owner() {
    use tailwater_format::metadata::ConfigOwner;
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let owners = [
        (ConfigResource::Broker(None), ConfigOwner::Broker(None)),
        (
            ConfigResource::Broker(Some(NodeId(0))),
            ConfigOwner::Broker(Some(NodeId(0))),
        ),
        (
            ConfigResource::Group("a".to_owned()),
            ConfigOwner::Group("a".to_owned()),
        ),
        (
            ConfigResource::ClientMetrics("a".to_owned()),
            ConfigOwner::ClientMetrics("a".to_owned()),
        ),
    ];
    for (at, (resource, _)) in owners.iter().enumerate() {
        machine
            .alter(caller, &alter(resource.clone(), vec![set("x", &at.to_string())]))
            .unwrap();
    }
    let rebuilt = machine.rebuilt();
    for (at, (resource, owner)) in owners.iter().enumerate() {
        let number = rebuilt.index().config(owner).unwrap();
        assert_eq!(rebuilt.config(number).unwrap().configs["x"], at.to_string());
        machine
            .alter(caller, &alter(resource.clone(), vec![delete("x")]))
            .unwrap();
        assert_eq!(machine.state.index().config(owner), None);
        assert!(machine.state.config(number).is_none());
    }
}

/// New partitions get the next indexes and streams of their own; fewer, as many, or too many aren't more.
#[test]
fn partitions_are_only_added() {
    let mut machine = Machine::new();
    let caller = machine.register(1, Tier::Frontend, 1);
    let topic = machine.topic(caller, "a", 2);
    machine.topic(caller, "b", 1);
    let mut grow = |total, validate_only| {
        let request = CreatePartitions {
            topic,
            total,
            validate_only,
        };
        machine.run(|tx| catalog::create_partitions(tx, caller, request))
    };
    for total in [-1, 0, 1, 2, 10_001] {
        assert!(matches!(grow(total, false), Err(Error::Invalid(_))), "{total}");
    }
    grow(4, true).unwrap();
    grow(3, false).unwrap();
    grow(5, false).unwrap();
    let runs = machine.state.topic(topic).unwrap().runs.clone();
    assert_eq!(runs, [(StreamId(0), 2), (StreamId(3), 3)]);
    for (stream, index) in [(3, 2), (4, 3), (5, 4)] {
        let row = machine.state.row(StreamId(stream)).unwrap();
        assert_eq!((row.topic, row.index, row.leader_epoch), (topic, index, LeaderEpoch(0)));
        assert_eq!(row.leader, Some((NodeId(1), caller.node_epoch)));
    }
    machine.run(|tx| catalog::delete_topic(tx, caller, topic)).unwrap();
    assert!(machine.state.row(StreamId(5)).is_none());
}
