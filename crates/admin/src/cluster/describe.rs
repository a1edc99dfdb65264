//! `cluster describe`: the brokers as clients know them, and what features are on.

use clap::Args;
use serde::Serialize;
use tailwater_kafka::messages::*;

use crate::client::{ANY_VERSION, Broker, Client, host_port, known};
use crate::error::Error;
use crate::report::{Report, Table, cell};

/// From here on a broker may be fenced (KIP-1073).
const FIRST_FENCED_VERSION: i16 = 2;

#[derive(Debug, Args)]
pub struct Describe {}

#[derive(Debug, Serialize)]
struct Described {
    cluster_id: String,
    /// The broker that clients take for the controller.
    controller: Option<i32>,
    brokers: Vec<DescribedBroker>,
    features: Vec<Feature>,
}

#[derive(Debug, Serialize)]
struct DescribedBroker {
    id: i32,
    address: String,
    rack: Option<String>,
    fenced: bool,
}

#[derive(Debug, Serialize)]
struct Feature {
    name: String,
    /// 0: off.
    level: i16,
    min_supported: i16,
    max_supported: i16,
}

impl Describe {
    pub fn run(&self, client: &mut Client) -> Result<Report, Error> {
        let response = ask(client, false)?;
        let described = Described {
            cluster_id: response.cluster_id.to_string(),
            controller: known(response.controller_id),
            brokers: brokers(&response),
            features: features(&client.greeting()?),
        };
        let mut report = Report::new(&described);
        let controller = described
            .controller
            .map_or_else(|| "none".to_owned(), |id| id.to_string());
        report.line(format!("cluster {}, controller {controller}", described.cluster_id));
        let mut table = Table::new(&["BROKER", "ADDRESS", "RACK", "STATE"]);
        for broker in described.brokers {
            let state = if broker.fenced { "Fenced" } else { "Active" };
            table.row(vec![
                broker.id.to_string(),
                broker.address,
                cell(broker.rack),
                state.to_owned(),
            ]);
        }
        report.table(table);
        let mut table = Table::new(&["FEATURE", "LEVEL", "SUPPORTED"]);
        for feature in described.features {
            let supported = format!("{} to {}", feature.min_supported, feature.max_supported);
            table.row(vec![feature.name, feature.level.to_string(), supported]);
        }
        if !table.is_empty() {
            report.table(table);
        }
        Ok(report)
    }
}

/// The cluster as a broker describes it, with fenced brokers where that can be asked for.
///
/// # Errors
/// A broker's refusal, or that none can be reached.
pub fn ask(client: &mut Client, tailwater_nodes: bool) -> Result<DescribeClusterResponse, Error> {
    let speaks = client.greeting()?.api_keys;
    let newest = speaks
        .iter()
        .find(|api| api.api_key == tailwater_kafka::ApiKey::DescribeCluster.code());
    let request = DescribeClusterRequest {
        include_fenced_brokers: newest.is_some_and(|api| api.max_version >= FIRST_FENCED_VERSION),
        tailwater_nodes,
        ..Default::default()
    };
    let response = client.ask(Broker::Any, ANY_VERSION, &request)?;
    Error::check(response.error_code, response.error_message.as_deref())?;
    Ok(response)
}

fn brokers(response: &DescribeClusterResponse) -> Vec<DescribedBroker> {
    let broker = |broker: &DescribeClusterBroker| DescribedBroker {
        id: broker.broker_id,
        address: host_port(&broker.host, broker.port),
        rack: broker.rack.as_ref().map(ToString::to_string),
        fenced: broker.is_fenced,
    };
    let mut brokers: Vec<_> = response.brokers.iter().map(broker).collect();
    brokers.sort_by_key(|broker| broker.id);
    brokers
}

fn features(greeting: &ApiVersionsResponse) -> Vec<Feature> {
    let feature = |supported: &SupportedFeature| {
        let mut levels = greeting
            .finalized_features
            .iter()
            .filter(|found| found.name == supported.name);
        Feature {
            name: supported.name.to_string(),
            level: levels.next().map_or(0, |found| found.max_version_level),
            min_supported: supported.min_version,
            max_supported: supported.max_version,
        }
    };
    let mut features: Vec<_> = greeting.supported_features.iter().map(feature).collect();
    features.sort_by(|a, b| a.name.cmp(&b.name));
    features
}
