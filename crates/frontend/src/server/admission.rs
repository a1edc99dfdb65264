//! How many connections there may be, in all and of one address.
//!
//! Owns: the counts of all listeners' connections together, and who is refused. Does not own: accepting and closing them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The limits, 0 being none (Kafka's `max.connections` and `max.connections.per.ip`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub all: usize,
    pub per_ip: usize,
}

/// Why a connection isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error("{0} connections are open, as many as there may be (frontend.server.max_connections)")]
    All(usize),
    #[error(
        "{0} connections of its address are open, as many as there may be (frontend.server.max_connections_per_ip)"
    )]
    OfAddress(usize),
}

impl TooMany {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::All(_) => "all",
            Self::OfAddress(_) => "ip",
        }
    }
}

/// Counts connections; clones share the counts.
#[derive(Clone)]
pub(super) struct Admission {
    limits: Limits,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A connection's place, which dropping gives back: to be dropped after its socket is closed.
pub(super) struct Place {
    inner: Arc<Inner>,
    ip: IpAddr,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inner: Arc::default(),
        }
    }

    /// # Errors
    /// The limit that stands against one more of `ip`.
    pub fn admit(&self, ip: IpAddr) -> Result<Place, TooMany> {
        let Limits { all, per_ip } = self.limits;
        // The same client may come over IPv4 and over IPv4 in IPv6.
        let ip = ip.to_canonical();
        let mut open = self.inner.open.lock();
        if all > 0 && open.all >= all {
            return Err(TooMany::All(all));
        }
        let of_ip = open.by_ip.entry(ip).or_default();
        if per_ip > 0 && *of_ip >= per_ip {
            return Err(TooMany::OfAddress(per_ip));
        }
        *of_ip += 1;
        open.all += 1;
        let inner = self.inner.clone();
        Ok(Place { inner, ip })
    }

    /// Waits until a connection that is open now has been closed.
    pub async fn freed(&self) {
        self.inner.freed.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.inner.open.lock();
        open.all -= 1;
        if let Some(of_ip) = open.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
        drop(open);
        self.inner.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Each address has its own limit, whichever way it is written, and a place that is given back can be had again.
    #[test]
    fn an_address_has_its_limit() {
        let admission = Admission::new(Limits { all: 0, per_ip: 2 });
        let first = admission.admit(ip("10.0.0.1")).ok().unwrap();
        let _second = admission.admit(ip("::ffff:10.0.0.1")).ok().unwrap();
        assert_eq!(admission.admit(ip("10.0.0.1")).err(), Some(TooMany::OfAddress(2)));
        let _other = admission.admit(ip("10.0.0.2")).ok().unwrap();
        drop(first);
        assert!(admission.admit(ip("10.0.0.1")).is_ok());
    }

    /// All together have a limit too; whoever waits learns of a place that is free, and an address without connections
    /// isn't kept.
    #[test]
    fn all_together_have_a_limit() {
        let admission = Admission::new(Limits { all: 2, per_ip: 0 });
        let places: Vec<_> = (1..=2)
            .map(|n| admission.admit([10, 0, 0, n].into()).ok().unwrap())
            .collect();
        assert_eq!(admission.admit(ip("10.0.0.3")).err(), Some(TooMany::All(2)));
        let mut freed = Box::pin(admission.freed());
        assert!(freed.as_mut().now_or_never().is_none());
        drop(places);
        assert!(freed.now_or_never().is_some());
        assert!(admission.inner.open.lock().by_ip.is_empty());
        assert!(admission.admit(ip("10.0.0.3")).is_ok());
    }
}
