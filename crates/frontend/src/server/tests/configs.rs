//! Settings: shown, changed, inherited; partitions added; records deleted.

use tailwater_kafka::ErrorCode;
use tailwater_kafka::messages::*;

use super::client::{Client, Server};
use crate::testing::batch;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn resource(resource_type: i8, name: &str, changes: &[Change<'_>]) -> IncrementalAlterConfigsResource {
    let config = |(name, config_operation, value): &Change<'_>| IncrementalAlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    };
    IncrementalAlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: changes.iter().map(config).collect(),
    }
}

async fn alter_all(
    client: &mut Client,
    resources: Vec<IncrementalAlterConfigsResource>,
    validate_only: bool,
) -> Vec<(ErrorCode, Option<String>)> {
    let request = IncrementalAlterConfigsRequest {
        resources,
        validate_only,
    };
    let answer = client.ask(1, &request).await;
    let responses = answer.responses.into_iter();
    responses
        .map(|response| {
            (
                response.error_code,
                response.error_message.map(|message| message.to_string()),
            )
        })
        .collect()
}

/// Changes one resource; answers the error and its text.
async fn alter(client: &mut Client, kind: i8, name: &str, changes: &[Change<'_>]) -> (ErrorCode, String) {
    let (code, message) = alter_all(client, vec![resource(kind, name, changes)], false)
        .await
        .remove(0);
    (code, message.unwrap_or_default())
}

async fn set(client: &mut Client, kind: i8, name: &str, key: &str, value: &str) {
    let altered = alter(client, kind, name, &[(key, SET, Some(value))]).await;
    assert_eq!(altered, (ErrorCode::None, String::new()), "{key}={value}");
}

async fn describe(client: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    client.ask(4, &request).await.results.remove(0)
}

/// The value, its source, and the synonyms of one setting.
async fn shown(
    client: &mut Client,
    kind: i8,
    name: &str,
    key: &str,
) -> (Option<String>, i8, Vec<(String, String, i8)>) {
    let entry = describe(client, kind, name, Some(&[key])).await.configs.remove(0);
    let synonym = |synonym: DescribeConfigsSynonym| {
        let value = synonym.value.unwrap_or_default();
        (synonym.name.to_string(), value.to_string(), synonym.source)
    };
    let synonyms = entry.synonyms.into_iter().map(synonym).collect();
    (
        entry.value.map(|value| value.to_string()),
        entry.config_source,
        synonyms,
    )
}

async fn create(
    client: &mut Client,
    name: &str,
    num_partitions: i32,
    configs: &[(&str, &str)],
) -> CreatableTopicResult {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: -1,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    client.ask(7, &request).await.topics.remove(0)
}

fn owned(synonyms: &[(&str, &str, i8)]) -> Vec<(String, String, i8)> {
    let owned = synonyms
        .iter()
        .map(|(name, value, source)| ((*name).to_owned(), (*value).to_owned(), *source));
    owned.collect()
}

/// Rule 28: every entry is there with type, default, source and, if asked for, documentation; only the named ones if some are
/// named; errors are a resource's own.
#[tokio::test]
async fn rule_28_every_entry_is_described() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[("retention.ms", " 78 ")]).await;
    let all = describe(&mut client, TOPIC, "t", None).await;
    assert_eq!(
        (all.error_code, all.error_message.as_deref()),
        (ErrorCode::None, Some(""))
    );
    assert_eq!(all.configs.len(), 33);
    for entry in &all.configs {
        assert!(
            entry.value.is_some() && entry.config_type > 0 && entry.documentation.is_some(),
            "{entry:?}"
        );
        assert!(!entry.read_only && !entry.is_sensitive);
        assert_eq!(
            entry.config_source,
            if entry.name.as_str() == "retention.ms" { 1 } else { 5 }
        );
    }
    let policy = all
        .configs
        .iter()
        .find(|entry| entry.name.as_str() == "cleanup.policy")
        .unwrap();
    assert_eq!((policy.config_type, policy.value.as_deref()), (7, Some("delete")));
    assert_eq!(describe(&mut client, TOPIC, "t", Some(&[])).await.configs.len(), 33);
    assert!(
        describe(&mut client, TOPIC, "t", Some(&["nosuch"]))
            .await
            .configs
            .is_empty()
    );
    assert_eq!(
        shown(&mut client, TOPIC, "t", "retention.ms").await,
        (Some("78".to_owned()), 1, owned(&[("retention.ms", "78", 1)]))
    );
    let broker = describe(&mut client, BROKER, "1", None).await;
    let of_broker = |name: &str| broker.configs.iter().find(|entry| entry.name.as_str() == name).unwrap();
    assert!(of_broker("node.id").read_only && !of_broker("log.retention.ms").read_only);
    assert_eq!(of_broker("log.retention.ms").value, None);
    assert_eq!(
        (
            of_broker("num.partitions").config_source,
            of_broker("num.partitions").value.as_deref()
        ),
        (4, Some("4"))
    );
    assert!(describe(&mut client, BROKER, "", None).await.configs.is_empty());
    assert_eq!(describe(&mut client, GROUP, "g", None).await.configs.len(), 17);
    assert_eq!(describe(&mut client, CLIENT_METRICS, "m", None).await.configs.len(), 3);
    let refused = [
        (TOPIC, "zz", ErrorCode::UnknownTopicOrPartition, ""),
        (
            BROKER,
            "7",
            ErrorCode::InvalidRequest,
            "Unexpected broker id, expected 1 or empty string, but received 7",
        ),
        (
            BROKER,
            "x",
            ErrorCode::InvalidRequest,
            "Broker id must be an integer, but it is: x",
        ),
        (GROUP, "", ErrorCode::InvalidRequest, "Group name must not be empty"),
        (
            CLIENT_METRICS,
            "",
            ErrorCode::InvalidRequest,
            "Client metrics subscription name must not be empty",
        ),
        (3, "x", ErrorCode::InvalidRequest, "Unsupported resource type: 3"),
    ];
    for (kind, name, code, message) in refused {
        let result = describe(&mut client, kind, name, None).await;
        assert_eq!(
            (result.error_code, result.error_message.as_deref()),
            (code, Some(message))
        );
        assert!(result.configs.is_empty());
    }
}

/// Rule 28: what is nearer goes before what is further: topic, broker, all brokers, the node's configuration, the default.
#[tokio::test]
async fn rule_28_values_come_from_the_nearest_source() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[]).await;
    let default = ("log.cleanup.policy", "delete", 5);
    let policy = async |client: &mut Client| shown(client, TOPIC, "t", "cleanup.policy").await;
    assert_eq!(
        policy(&mut client).await,
        (Some("delete".to_owned()), 5, owned(&[default]))
    );
    set(&mut client, BROKER, "", "log.cleanup.policy", "compact").await;
    let all = ("log.cleanup.policy", "compact", 3);
    assert_eq!(
        policy(&mut client).await,
        (Some("compact".to_owned()), 3, owned(&[all, default]))
    );
    set(&mut client, BROKER, "1", "log.cleanup.policy", "delete, compact").await;
    let own = ("log.cleanup.policy", "delete,compact", 2);
    assert_eq!(
        policy(&mut client).await,
        (Some("delete,compact".to_owned()), 2, owned(&[own, all, default]))
    );
    set(&mut client, TOPIC, "t", "cleanup.policy", "delete").await;
    let topic = ("cleanup.policy", "delete", 1);
    assert_eq!(
        policy(&mut client).await,
        (Some("delete".to_owned()), 1, owned(&[topic, own, all, default]))
    );
    let only = describe(&mut client, BROKER, "", None).await;
    let only: Vec<&str> = only.configs.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(only, ["log.cleanup.policy"]);
    for (kind, name, key) in [(BROKER, "1", "log.cleanup.policy"), (BROKER, "", "log.cleanup.policy")] {
        assert_eq!(
            alter(&mut client, kind, name, &[(key, DELETE, None)]).await.0,
            ErrorCode::None
        );
    }
    assert_eq!(policy(&mut client).await.2, owned(&[topic, default]));
}

/// Rule 28: APPEND and SUBTRACT change lists, from the default where nothing is set, and nothing else than lists.
#[tokio::test]
async fn rule_28_lists_are_appended_to_and_subtracted_from() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[]).await;
    let policy = "cleanup.policy";
    for (op, value, expected) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact,compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
        (SUBTRACT, "delete", "compact"),
        (SUBTRACT, "compact", ""),
        (SET, " compact , delete ", "compact,delete"),
    ] {
        let altered = alter(&mut client, TOPIC, "t", &[(policy, op, Some(value))]).await;
        assert_eq!(altered.0, ErrorCode::None, "{value}");
        assert_eq!(
            shown(&mut client, TOPIC, "t", policy).await.0.as_deref(),
            Some(expected)
        );
    }
    let refused = [
        (
            "retention.ms",
            APPEND,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            "retention.ms",
            SUBTRACT,
            "Can't SUBTRACT to key retention.ms because its type is not LIST.",
        ),
        (
            policy,
            APPEND,
            "Invalid value 5 for configuration cleanup.policy: String must be one of: compact, delete",
        ),
    ];
    for (name, op, message) in refused {
        let altered = alter(&mut client, TOPIC, "t", &[(name, op, Some("5"))]).await;
        assert_eq!(altered, (ErrorCode::InvalidConfig, message.to_owned()));
    }
}

/// Rule 28: what Apache Kafka 4.3.0 answered to the same wrong changes.
#[tokio::test]
async fn rule_28_wrong_changes_are_refused_as_kafka_refuses_them() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[]).await;
    create(&mut client, "u", 1, &[]).await;
    use ErrorCode::*;
    let refused: &[(i8, &str, &[Change<'_>], ErrorCode, &str)] = &[
        (
            TOPIC,
            "t",
            &[("nosuch", SET, Some("1"))],
            InvalidConfig,
            "Unknown topic config name: nosuch",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, Some("x"))],
            InvalidConfig,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, Option::None)],
            InvalidRequest,
            "Null value not supported for : retention.ms",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))],
            InvalidRequest,
            "Error due to duplicate config keys",
        ),
        (
            TOPIC,
            "t",
            &[
                ("min.compaction.lag.ms", SET, Some("5")),
                ("max.compaction.lag.ms", SET, Some("3")),
            ],
            InvalidConfig,
            "conflict topic config setting min.compaction.lag.ms (5) > max.compaction.lag.ms (3)",
        ),
        (
            TOPIC,
            "zz",
            &[("retention.ms", SET, Some("1"))],
            UnknownTopicOrPartition,
            "The topic 'zz' does not exist.",
        ),
        (
            TOPIC,
            "",
            &[("retention.ms", SET, Some("1"))],
            InvalidRequest,
            "Default topic resources are not allowed.",
        ),
        (
            3,
            "t",
            &[("retention.ms", SET, Some("1"))],
            InvalidRequest,
            "Unknown resource type 3",
        ),
        (
            BROKER,
            "x",
            &[("log.retention.ms", SET, Some("1"))],
            InvalidRequest,
            "Node id must be an integer, but it is: x",
        ),
        (
            BROKER,
            "",
            &[("node.id", SET, Some("3"))],
            InvalidRequest,
            "Cannot update these configs dynamically: [node.id]",
        ),
        (
            BROKER,
            "1",
            &[("message.max.bytes", SET, Some("-1"))],
            InvalidRequest,
            "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
        ),
        (
            BROKER,
            "",
            &[("nosuch", SET, Some("1"))],
            InvalidConfig,
            "Unknown broker config name: nosuch",
        ),
        (
            BROKER,
            "",
            &[("log.retention.ms", APPEND, Some("7"))],
            InvalidConfig,
            "Config value append is not allowed for config key: log.retention.ms",
        ),
        (
            GROUP,
            "g",
            &[("nosuch", SET, Some("1"))],
            InvalidConfig,
            "Unknown group config name: nosuch",
        ),
        (
            GROUP,
            "",
            &[("nosuch", SET, Some("1"))],
            InvalidRequest,
            "Default group resources are not allowed.",
        ),
        (
            CLIENT_METRICS,
            "m",
            &[("nosuch", SET, Some("1"))],
            InvalidRequest,
            "Unknown client metrics configuration: nosuch",
        ),
    ];
    for (kind, name, changes, code, message) in refused {
        let altered = alter(&mut client, *kind, name, changes).await;
        assert_eq!(altered, (*code, (*message).to_owned()), "{changes:?}");
    }
    let twice = vec![
        resource(TOPIC, "t", &[("retention.ms", SET, Some("1"))]),
        resource(TOPIC, "t", &[("retention.bytes", SET, Some("1"))]),
        resource(TOPIC, "u", &[("retention.bytes", SET, Some("2"))]),
    ];
    let altered = alter_all(&mut client, twice, false).await;
    let once = Some("Each resource must appear at most once.".to_owned());
    assert_eq!(
        altered,
        [
            (InvalidRequest, once.clone()),
            (InvalidRequest, once),
            (None, Option::None)
        ]
    );
    let check = vec![resource(TOPIC, "u", &[("retention.bytes", SET, Some("77"))])];
    assert_eq!(alter_all(&mut client, check, true).await, [(None, Option::None)]);
    assert_eq!(
        shown(&mut client, TOPIC, "u", "retention.bytes").await.0.as_deref(),
        Some("2")
    );
    assert_eq!(
        shown(&mut client, TOPIC, "t", "retention.bytes").await.0.as_deref(),
        Some("-1")
    );
}

/// AlterConfigs sets what it names and unsets everything else; whatever is set survives a restart.
#[tokio::test]
async fn whole_replacements_and_restarts() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[("retention.ms", "5")]).await;
    let replace = |configs: &[(&str, Option<&str>)]| {
        let config = |(name, value): &(&str, Option<&str>)| AlterableConfig {
            name: (*name).into(),
            value: value.map(Into::into),
        };
        AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "t".into(),
                configs: configs.iter().map(config).collect(),
            }],
            validate_only: false,
        }
    };
    let refused = client.ask(2, &replace(&[("retention.bytes", None)])).await;
    assert_eq!(refused.responses[0].error_code, ErrorCode::InvalidRequest);
    let altered = client.ask(0, &replace(&[("retention.bytes", Some("7"))])).await;
    assert_eq!(altered.responses[0].error_code, ErrorCode::None);
    set(&mut client, GROUP, "g", "consumer.session.timeout.ms", "50000").await;
    set(&mut client, CLIENT_METRICS, "m", "interval.ms", "5000").await;
    set(&mut client, BROKER, "", "log.retention.ms", "9999").await;
    let server = server.restart().await;
    let mut client = server.connect().await;
    assert_eq!(shown(&mut client, TOPIC, "t", "retention.bytes").await.1, 1);
    assert_eq!(
        shown(&mut client, TOPIC, "t", "retention.ms").await,
        (Some("9999".to_owned()), 3, owned(&[("log.retention.ms", "9999", 3)]))
    );
    assert_eq!(shown(&mut client, CLIENT_METRICS, "m", "interval.ms").await.1, 7);
    let session = shown(&mut client, GROUP, "g", "consumer.session.timeout.ms").await;
    assert_eq!((session.0.as_deref(), session.1), (Some("50000"), 8));
    let mut list = async |version, resource_types| {
        let request = ListConfigResourcesRequest { resource_types };
        let listed = client.ask(version, &request).await;
        let names = listed.config_resources.into_iter();
        let names: Vec<_> = names
            .map(|it| (it.resource_type, it.resource_name.to_string()))
            .collect();
        (listed.error_code, names)
    };
    let one = |kind, name: &str| (ErrorCode::None, vec![(kind, name.to_owned())]);
    assert_eq!(list(0, vec![]).await, one(CLIENT_METRICS, "m"));
    assert_eq!(list(1, vec![GROUP]).await, one(GROUP, "g"));
    assert_eq!(list(1, vec![BROKER]).await, one(BROKER, "1"));
    assert_eq!(list(1, vec![]).await.1.len(), 4);
    assert_eq!(list(1, vec![3]).await.0, ErrorCode::UnsupportedVersion);
}

/// Rule 27: CreateTopics answers with every setting and where it comes from.
#[tokio::test]
async fn rule_27_a_new_topic_shows_its_settings_and_their_sources() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    set(&mut client, BROKER, "", "log.retention.ms", "9999").await;
    set(&mut client, BROKER, "1", "message.max.bytes", "5000").await;
    let created = create(&mut client, "t", 1, &[("cleanup.policy", "compact")]).await;
    let configs = created.configs.unwrap();
    assert_eq!(configs.len(), 33);
    let source = |name: &str| {
        let entry = configs.iter().find(|entry| entry.name.as_str() == name).unwrap();
        (entry.value.clone().unwrap().to_string(), entry.config_source)
    };
    assert_eq!(source("cleanup.policy"), ("compact".to_owned(), 1));
    assert_eq!(source("max.message.bytes"), ("5000".to_owned(), 2));
    assert_eq!(source("retention.ms"), ("9999".to_owned(), 3));
    assert_eq!(source("segment.ms"), ("604800000".to_owned(), 5));
}

/// Rule 31: whether topics are made by being asked for, and with how many partitions, can be changed while the node runs.
#[tokio::test]
async fn rule_31_brokers_settings_hold_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let ask = |name: &str| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    set(&mut client, BROKER, "", "auto.create.topics.enable", "false").await;
    let refused = client.ask(12, &ask("t")).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    set(&mut client, BROKER, "", "auto.create.topics.enable", "true").await;
    set(&mut client, BROKER, "", "num.partitions", "2").await;
    assert_eq!(client.ask(12, &ask("t")).await.topics[0].partitions.len(), 2);
    assert_eq!(create(&mut client, "u", -1, &[]).await.num_partitions, 2);
}

/// Rule 29: partitions are added topic by topic; what Apache Kafka 4.3.0 answered to the same wrong requests.
#[tokio::test]
async fn rule_29_partitions_are_added() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 2, &[]).await;
    create(&mut client, "u", 2, &[]).await;
    let topic = |name: &str, count, assignments: Option<&[&[i32]]>| CreatePartitionsTopic {
        name: name.into(),
        count,
        assignments: assignments.map(|assignments| {
            let assigned = assignments.iter().map(|brokers| CreatePartitionsAssignment {
                broker_ids: brokers.to_vec(),
            });
            assigned.collect()
        }),
    };
    let mut add = async |topics: Vec<CreatePartitionsTopic>, validate_only| {
        let request = CreatePartitionsRequest {
            topics,
            timeout_ms: 10_000,
            validate_only,
        };
        let results = client.ask(3, &request).await.results.into_iter();
        let result = |result: CreatePartitionsTopicResult| {
            let message = result.error_message.map(|message| message.to_string());
            (result.name.to_string(), result.error_code, message.unwrap_or_default())
        };
        results.map(result).collect::<Vec<_>>()
    };
    use ErrorCode::*;
    let refused = [
        (
            topic("u", 2, Option::None),
            InvalidPartitions,
            "Topic already has 2 partition(s).",
        ),
        (
            topic("u", -1, Option::None),
            InvalidPartitions,
            "The topic u currently has 2 partition(s); -1 would not be an increase.",
        ),
        (topic("zz", 3, Option::None), UnknownTopicOrPartition, ""),
        (
            topic("u", 4, Some(&[&[1]])),
            InvalidReplicaAssignment,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            topic("u", 3, Some(&[&[9]])),
            InvalidReplicaAssignment,
            "The manual partition assignment includes broker 9, but no such broker is registered.",
        ),
        (
            topic("u", 3, Some(&[&[]])),
            InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            topic("u", 3, Some(&[&[1, 1]])),
            InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
    ];
    for (topic, code, message) in refused {
        let name = topic.name.to_string();
        assert_eq!(add(vec![topic], false).await, [(name, code, message.to_owned())]);
    }
    let twice = vec![
        topic("u", 3, Option::None),
        topic("u", 4, Option::None),
        topic("t", 3, Option::None),
    ];
    assert_eq!(
        add(twice, false).await,
        [
            ("u".to_owned(), InvalidRequest, "Duplicate topic name.".to_owned()),
            ("t".to_owned(), None, String::new()),
        ]
    );
    assert_eq!(add(vec![topic("u", 4, Some(&[&[1], &[1]]))], true).await[0].1, None);
    assert_eq!(
        add(vec![topic("u", 2, Option::None)], false).await[0].1,
        InvalidPartitions,
        "it was a check"
    );
    assert_eq!(add(vec![topic("u", 4, Some(&[&[1], &[1]]))], false).await[0].1, None);
    let id = server.fixture.data.view.snapshot().topic_named("u").unwrap().info.id;
    server.fixture.opened(id, 3).await;
}

/// Rule 29: -1 deletes up to the high watermark; only the start of the log moves, at once and for good; beyond the high
/// watermark is OFFSET_OUT_OF_RANGE.
#[tokio::test]
async fn rule_29_deleted_records_are_gone_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    create(&mut client, "t", 1, &[]).await;
    let id = server.fixture.data.view.snapshot().topic_named("t").unwrap().info.id;
    let partition = server.fixture.opened(id, 0).await;
    for _ in 0..3 {
        crate::testing::commit(&partition, batch(&[b"a", b"b"])).await;
    }
    let delete = |partition_index, offset| DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index,
                offset,
            }],
        }],
        timeout_ms: 10_000,
    };
    let ask = async |client: &mut Client, partition, offset| {
        let mut topics = client.ask(2, &delete(partition, offset)).await.topics;
        let result = topics.remove(0).partitions.remove(0);
        (result.low_watermark, result.error_code)
    };
    let earliest = async |client: &mut Client| {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![ListOffsetsPartition {
                    timestamp: -2,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        client.ask(7, &request).await.topics[0].partitions[0].offset
    };
    for (index, offset, expected) in [
        (0, 7, (-1, ErrorCode::OffsetOutOfRange)),
        (0, -2, (-1, ErrorCode::OffsetOutOfRange)),
        (9, 0, (-1, ErrorCode::UnknownTopicOrPartition)),
        (0, 3, (3, ErrorCode::None)),
        (0, 1, (3, ErrorCode::None)),
    ] {
        assert_eq!(ask(&mut client, index, offset).await, expected, "{offset}");
    }
    assert_eq!(earliest(&mut client).await, 3);
    assert!(
        partition
            .read(tailwater_types::Offset(2), partition.high_watermark(), 1000, true)
            .await
            .is_err()
    );
    assert_eq!(
        crate::testing::values_from(&partition, 3).await.len(),
        4,
        "whole batches, from the middle of one"
    );
    assert_eq!(ask(&mut client, 0, -1).await, (6, ErrorCode::None));
    let server = server.restart().await;
    let mut client = server.connect().await;
    server.fixture.opened(id, 0).await;
    assert_eq!(earliest(&mut client).await, 6);
    set(&mut client, TOPIC, "t", "cleanup.policy", "compact").await;
    assert_eq!(ask(&mut client, 0, -1).await, (-1, ErrorCode::PolicyViolation));
}
