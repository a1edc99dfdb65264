//! Settings: what is set of topics, brokers, groups and client metrics.
//!
//! Owns: whose settings are kept where. Does not own: how changes are applied (`ConfigChanges` of `rpc`), which settings
//! there are and what they may be; that is known where they are obeyed.

use std::collections::BTreeMap;

use tailwater_format::metadata::{ConfigOwner, ConfigRecord, Key, TopicRecord};
use tailwater_rpc::controller::{AlterConfigs, Caller, ConfigResource};
use tailwater_rpc::{Error, Result};
use tailwater_types::MetadataVersion;

use super::catalog::check_configs;
use super::{Tx, View, nodes};

type Configs = BTreeMap<String, String>;

/// Applies all of the changes to what is set now, or none.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Invalid`].
pub fn alter(tx: &mut Tx<'_>, caller: Caller, request: &AlterConfigs) -> Result<MetadataVersion> {
    nodes::check(tx, caller)?;
    match &request.resource {
        ConfigResource::Topic(id) => {
            let Some(topic) = tx.topic(*id).cloned() else {
                return Err(Error::NotFound(format!("topic {id}")));
            };
            let configs = request.changes.applied_to(&topic.configs);
            check_configs(&topic.name, &configs)?;
            if !request.validate_only && configs != topic.configs {
                let altered = TopicRecord {
                    configs,
                    ..(*topic).clone()
                };
                tx.put_topic(*id, altered);
            }
        }
        ConfigResource::Broker(node) => alter_owner(tx, ConfigOwner::Broker(*node), request)?,
        ConfigResource::Group(name) => alter_owner(tx, ConfigOwner::Group(name.clone()), request)?,
        ConfigResource::ClientMetrics(name) => alter_owner(tx, ConfigOwner::ClientMetrics(name.clone()), request)?,
    }
    Ok(match tx.keys() {
        0 => tx.state.version(),
        _ => tx.version(),
    })
}

fn alter_owner(tx: &mut Tx<'_>, owner: ConfigOwner, request: &AlterConfigs) -> Result<()> {
    let number = tx.state.index().config(&owner);
    let before = number.and_then(|number| tx.config(number));
    let before = before.map_or_else(Configs::new, |record| record.configs.clone());
    let configs = request.changes.applied_to(&before);
    check_configs(&format!("{owner:?}"), &configs)?;
    if request.validate_only || configs == before {
        return Ok(());
    }
    match number {
        Some(number) if configs.is_empty() => tx.remove(Key::Config(number)),
        Some(number) => tx.put_config(number, ConfigRecord { owner, configs }),
        None => {
            let number = tx.new_config();
            tx.put_config(number, ConfigRecord { owner, configs });
        }
    }
    Ok(())
}
