//! What members want: topics that come, go and grow, and regular expressions.

use tailwater_kafka::ErrorCode;

use super::harness::*;
use crate::group::consumer::heartbeat::Heartbeat;
use crate::group::consumer::record::ConsumerRecord;

/// Partitions and topics that come are assigned with the next heartbeat, and what is gone is taken back.
#[test]
fn changes_of_topics_are_seen_at_the_next_heartbeat() {
    let mut h = Harness::new(&[("t", 2)]);
    let mut clients = vec![Client::join(&mut h, "a", &["t", "later"])];
    assert_eq!(clients[0].load(), 2);
    let epoch = h.group.state().epoch;
    h.set_topic("other", 5);
    h.settle(&mut clients);
    assert_eq!(h.group.state().epoch, epoch, "nobody wants that one");
    h.set_topic("t", 3);
    h.set_topic("later", 1);
    h.settle(&mut clients);
    assert_eq!((clients[0].load(), h.group.state().epoch), (4, epoch + 1));
    h.delete_topic("t");
    h.settle(&mut clients);
    assert_eq!(clients[0].has.keys().collect::<Vec<_>>(), [&id_of("later")]);
}

/// A regular expression stands for the topics whose whole name it matches, now and later; one that nobody has any more is
/// forgotten.
#[test]
fn a_regular_expression_stands_for_whole_names() {
    let mut h = Harness::new(&[("tea", 1), ("tee", 1), ("steam", 1)]);
    let request = Heartbeat {
        topics: None,
        regex: Some("te.|x".to_owned()),
        ..join("a", &[])
    };
    let mut client = Client {
        id: "a".to_owned(),
        ..Client::default()
    };
    client.take(h.heartbeat(request));
    assert_eq!(
        client.has.keys().copied().collect::<Vec<_>>(),
        [id_of("tea"), id_of("tee")]
    );
    h.set_topic("x", 1);
    h.set_topic("xx", 1);
    let mut h = h.restart();
    client.beat(&mut h);
    assert_eq!(client.load(), 3);
    let bad = Heartbeat {
        regex: Some("te)(".to_owned()),
        ..client.request()
    };
    let reply = h.heartbeat(bad);
    assert_eq!(
        (reply.error, reply.message.is_some()),
        (ErrorCode::InvalidRegularExpression, true)
    );
    let named = Heartbeat {
        topics: Some(["steam".to_owned()].into()),
        regex: Some(String::new()),
        ..client.request()
    };
    client.take(h.heartbeat(named));
    client.beat(&mut h);
    assert_eq!(client.has.keys().copied().collect::<Vec<_>>(), [id_of("steam")]);
    assert!(h.log.contains(&ConsumerRecord::Regex("te.|x".to_owned(), None)));
}

/// The assignor that most members name assigns.
#[test]
fn the_most_named_assignor_assigns() {
    let mut h = Harness::new(&[("s", 3), ("t", 3)]);
    let named = |id: &str, assignor: &str| Heartbeat {
        assignor: Some(assignor.to_owned()),
        ..join(id, &["s", "t"])
    };
    let mut clients = Vec::new();
    for (id, assignor) in [("a", "range"), ("b", "range"), ("c", "uniform")] {
        let reply = h.heartbeat(named(id, assignor));
        let mut client = Client {
            id: id.to_owned(),
            ..Client::default()
        };
        client.take(reply);
        clients.push(client);
    }
    h.settle(&mut clients);
    for client in &clients {
        assert_eq!(client.has[&id_of("s")], client.has[&id_of("t")], "{}", client.id);
    }
}

/// Whoever forgets the group leaves nothing of it in the log.
#[test]
fn tombstones_forget_everything() {
    let mut h = Harness::new(&[("t", 2)]);
    let with_regex = Heartbeat {
        regex: Some("t.*".to_owned()),
        ..join("a", &["t"])
    };
    h.heartbeat(with_regex);
    Client::join(&mut h, "b", &["t"]);
    let tombstones = h.group.state().tombstones();
    h.log.extend(tombstones);
    let h = h.restart();
    assert!(h.group.state().is_blank());
}
