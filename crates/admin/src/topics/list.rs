//! `topics list`.

use clap::Args;
use serde::Serialize;
use tailwater_types::TopicId;

use crate::client::{Client, Topic};
use crate::error::Error;
use crate::report::{Report, Table};

#[derive(Debug, Args)]
pub struct List {
    /// Those that Kafka keeps for itself too, as __consumer_offsets.
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    topic_id: String,
    internal: bool,
    partitions: usize,
    replication_factor: usize,
}

impl List {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let (found, failures) = Report::sift("topic", client.topics(None)?);
        let listed: Vec<Listed> = found
            .into_iter()
            .filter(|topic| self.internal || !topic.internal)
            .map(to_listed)
            .collect();
        let mut report = Report::new(&listed);
        let mut table = Table::new(&["NAME", "PARTITIONS", "REPLICATION"]);
        for topic in listed {
            let (partitions, replication) = (topic.partitions.to_string(), topic.replication_factor.to_string());
            table.row(vec![topic.name, partitions, replication]);
        }
        report.table(table);
        report.failures(&failures);
        Ok(report)
    }
}

fn to_listed(topic: Topic) -> Listed {
    Listed {
        topic_id: TopicId(topic.id).to_string(),
        internal: topic.internal,
        partitions: topic.partitions.len(),
        replication_factor: replication_factor(&topic),
        name: topic.name,
    }
}

/// Of the first partition, as Kafka counts.
pub fn replication_factor(topic: &Topic) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replicas.len())
}
