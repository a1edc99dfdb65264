//! Kafka's numbers of the sorts of resources that have settings.

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
/// Known, and of no node here.
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;
