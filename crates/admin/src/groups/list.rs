//! `groups list`: every broker is asked for the groups that it coordinates.

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::ListedGroup;

use super::question::listed_at;
use crate::client::{Broker, Client, Patience};
use crate::error::Error;
use crate::report::{Report, Table};

#[derive(Debug, Args)]
pub struct List {
    /// Only those in a state: Stable, Empty, PreparingRebalance, CompletingRebalance, … May be repeated.
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only those of a type: classic, consumer, share, … May be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Listed {
    group_id: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    protocol_type: String,
    coordinator: i32,
}

impl List {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let brokers: Vec<i32> = client.brokers()?.addresses.keys().copied().collect();
        let answers = client.settle(brokers, Patience::All, |client, open| {
            let ask = |broker: &i32| (*broker, listed_at(client, Broker::Id(*broker)));
            Ok(open.iter().map(ask).collect())
        })?;
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for (broker, groups) in answers {
            match groups {
                Ok(groups) => found.extend(groups.into_iter().map(|group| to_listed(group, broker))),
                Err(error) => failures.push((format!("groups of broker {broker}"), error)),
            }
        }
        found.retain(|group| passes(&self.state, &group.state) && passes(&self.kind, &group.kind));
        found.sort();
        let mut report = Report::new(&found);
        let mut table = Table::new(&["GROUP", "TYPE", "STATE", "PROTOCOL", "COORDINATOR"]);
        for group in found {
            let coordinator = group.coordinator.to_string();
            table.row(vec![
                group.group_id,
                group.kind,
                group.state,
                group.protocol_type,
                coordinator,
            ]);
        }
        report.table(table);
        report.failures(&failures);
        Ok(report)
    }
}

/// Here and not at the broker: old ones know no filter.
fn passes(wanted: &[String], found: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(found))
}

fn to_listed(group: ListedGroup, coordinator: i32) -> Listed {
    Listed {
        group_id: group.group_id.to_string(),
        kind: group.group_type.to_string(),
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        coordinator,
    }
}
