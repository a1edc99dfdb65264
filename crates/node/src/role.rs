//! The roles that a process can have, and which node of the cluster it is.
//!
//! Owns: how a node gets its number. Does not own: what a role starts (`tiers`, `standalone`).

use tailwater_types::NodeId;

use crate::layers::ConfigError;

/// Numbers of nodes that are not told theirs: a tier's begin here, so that no two tiers' meet.
const FIRST_FRONTEND: u32 = 1;
const FIRST_WAL: u32 = 10_001;
/// Compactors are as many and as short-lived as load asks for: theirs are random from here on.
const FIRST_COMPACTOR: u32 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All four tiers in one process.
    Standalone,
    Controller,
    Wal,
    Frontend,
    Compactor,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Controller => "controller",
            Self::Wal => "wal",
            Self::Frontend => "frontend",
            Self::Compactor => "compactor",
        }
    }

    /// Whether it reads or writes object storage.
    pub fn uses_objects(self) -> bool {
        matches!(self, Self::Standalone | Self::Frontend | Self::Compactor)
    }

    /// Whether Kafka clients connect to it.
    pub fn serves_clients(self) -> bool {
        matches!(self, Self::Standalone | Self::Frontend)
    }

    /// Whether other nodes call it at an address that it registers.
    pub fn is_called_by_address(self) -> bool {
        matches!(self, Self::Wal | Self::Frontend)
    }

    /// Whether it keeps something in its data directory.
    pub fn keeps_data(self) -> bool {
        matches!(self, Self::Standalone | Self::Controller | Self::Wal)
    }

    /// The number of this process' node: `set`, or what follows from the host's name.
    ///
    /// # Errors
    /// If a frontend or WAL node has neither, or the number is no node's.
    pub fn node_id(self, set: Option<u32>, host: Option<&str>, random: u128) -> Result<NodeId, ConfigError> {
        if let Some(id) = set {
            return match id {
                0 => Err(ConfigError("node.id is 0, node numbers begin at 1".to_owned())),
                id => Ok(NodeId(id)),
            };
        }
        let first = match self {
            Self::Compactor => {
                let spread = u128::from(i32::MAX.cast_unsigned() - FIRST_COMPACTOR);
                let offset = u32::try_from(random % spread).expect("it is below a u32");
                return Ok(NodeId(FIRST_COMPACTOR + offset));
            }
            Self::Wal => FIRST_WAL,
            Self::Standalone | Self::Controller | Self::Frontend => FIRST_FRONTEND,
        };
        let ordinal = host.and_then(ordinal).and_then(|ordinal| ordinal.checked_add(first));
        ordinal.map(NodeId).ok_or_else(|| {
            ConfigError(format!(
                "node.id is needed: the host's name ({}) doesn't end in a number, as in {}-0",
                host.unwrap_or("it has none"),
                self.name()
            ))
        })
    }
}

/// The number behind the last hyphen of a host's name, without its domain.
fn ordinal(host: &str) -> Option<u32> {
    let (_, number) = host.split('.').next()?.rsplit_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is set holds; otherwise the ordinal of a StatefulSet's pod counts, within the tier's own range.
    #[test]
    fn nodes_have_numbers_of_their_own() {
        let id = |role: Role, set, host| role.node_id(set, host, 7).map(|id| id.0).ok();
        assert_eq!(id(Role::Frontend, Some(5), Some("frontend-0")), Some(5));
        assert_eq!(id(Role::Frontend, None, Some("tailwater-frontend-2.pods.svc")), Some(3));
        assert_eq!(id(Role::Wal, None, Some("wal-0")), Some(10_001));
        assert_eq!(id(Role::Compactor, None, None), Some((1 << 20) + 7));
        for (set, host) in [
            (Some(0), None),
            (None, None),
            (None, Some("wal")),
            (None, Some("wal-x1")),
        ] {
            assert_eq!(id(Role::Wal, set, host), None, "{set:?} {host:?}");
        }
        let random = Role::Compactor.node_id(None, None, u128::MAX).unwrap();
        assert!(i32::try_from(random.0).is_ok());
    }
}
