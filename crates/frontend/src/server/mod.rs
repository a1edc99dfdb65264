//! The Kafka listeners: connections, frames, and the order of requests on each.
//!
//! `listener` accepts, `admission` says how many, `connection` is one client's task, `frame` reads requests off its socket,
//! `pipeline` says which of them may run at once, `dispatch` hands them to their handlers.

mod admission;
mod api_versions;
mod connection;
mod context;
mod dispatch;
mod errors_in;
mod frame;
mod listener;
mod metrics;
mod pipeline;
mod quiet;
mod refusals;
#[cfg(test)]
mod tests;

pub(crate) use context::RequestContext;
pub(crate) use dispatch::Handlers;
pub(crate) use listener::Listeners;
pub(crate) use metrics::ServerMetrics;
