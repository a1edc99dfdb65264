//! Kafka listeners: which there are, what they are called, and what each one's clients are told.
//!
//! Owns: the settings of a listener, and the list of all of them out of the first one (`frontend.server.listen`) and the
//! further ones (`frontend.listeners.NAME`). A client that came through a listener is told brokers' addresses of the listener
//! of the same name. Does not own: sockets (`protocol`, `server`).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The first listener's name where nothing else is said.
pub(crate) const DEFAULT_NAME: &str = "PLAINTEXT";
const MAX_NAME_BYTES: usize = 64;

/// A listener's name, as brokers that have the same listener call it too. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerName(Arc<str>);

impl ListenerName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// A listener beside the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// HOST:PORT to listen on; port 0: any free one.
    pub listen: String,
    /// HOST:PORT that clients of this listener are told to connect to. Empty: the listening address, for a wildcard the
    /// host's name. Port 0: the listening port. The name needs not resolve here.
    pub advertise: String,
}

/// One listener as its settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening<'a> {
    pub name: &'a str,
    pub listen: &'a str,
    /// The setting that says where it listens.
    pub setting: Setting<'a>,
    /// What clients are told; port 0: the listening one.
    pub host: &'a str,
    pub port: u16,
}

/// Which settings a listener has its addresses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting<'a> {
    First,
    Further(&'a str),
}

impl Setting<'_> {
    pub fn of(self, what: &str) -> String {
        match self {
            Self::First => format!("frontend.server.{what}"),
            Self::Further(name) => format!("frontend.listeners.{name}.{what}"),
        }
    }
}

impl Config {
    /// All listeners, the first one first, then in the order of their names.
    ///
    /// # Errors
    /// The first setting that can't work, and why.
    pub(crate) fn all_listeners(&self) -> Result<Vec<Listening<'_>>, String> {
        let server = &self.server;
        check_name("frontend.server.listener", &server.listener)?;
        let mut all = vec![listening(
            &server.listener,
            &server.listen,
            &server.advertise,
            Setting::First,
        )?];
        for (name, config) in &self.listeners {
            check_name("the name of a section frontend.listeners.NAME", name)?;
            if *name == server.listener {
                return Err(format!(
                    "frontend.listeners.{name} is called as the first listener is (frontend.server.listener)"
                ));
            }
            let setting = Setting::Further(name);
            if config.listen.is_empty() {
                return Err(format!("{} is needed: HOST:PORT to listen on", setting.of("listen")));
            }
            all.push(listening(name, &config.listen, &config.advertise, setting)?);
        }
        Ok(all)
    }
}

/// Names go into Kafka's `listeners`, as in `NAME://HOST:PORT`, and into names of environment variables.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_good) && !name.contains("__") {
        return Ok(());
    }
    Err(format!(
        "{what} is {name:?}: letters, digits, - and single _ are possible, up to {MAX_NAME_BYTES}"
    ))
}

fn listening<'a>(
    name: &'a str,
    listen: &'a str,
    advertise: &'a str,
    setting: Setting<'a>,
) -> Result<Listening<'a>, String> {
    let (listen_host, listen_port) = host_and_port(&setting.of("listen"), listen)?;
    let (host, port) = match advertise {
        "" if WILDCARDS.contains(&listen_host) => {
            let (listens, advertises) = (setting.of("listen"), setting.of("advertise"));
            return Err(format!(
                "{listens} is {listen}: {advertises} must say what clients connect to"
            ));
        }
        "" => (listen_host, listen_port),
        advertise => host_and_port(&setting.of("advertise"), advertise)?,
    };
    if WILDCARDS.contains(&host) {
        let advertises = setting.of("advertise");
        return Err(format!("{advertises} is {advertise}: no client can connect to that"));
    }
    Ok(Listening {
        name,
        listen,
        setting,
        host,
        port,
    })
}

/// Addresses that no client can connect to.
const WILDCARDS: &[&str] = &["0.0.0.0", "::", ""];

/// An IPv6 address stands in brackets.
fn host_and_port<'a>(name: &str, address: &'a str) -> Result<(&'a str, u16), String> {
    let wrong = || format!("{name} is {address:?}, expected HOST:PORT");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    Ok((host, port.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, advertise: &str, further: &[(&str, &str, &str)]) -> Config {
        let mut config = Config::default();
        listen.clone_into(&mut config.server.listen);
        advertise.clone_into(&mut config.server.advertise);
        for (name, listen, advertise) in further {
            let further = ListenerConfig {
                listen: (*listen).to_owned(),
                advertise: (*advertise).to_owned(),
            };
            config.listeners.insert((*name).to_owned(), further);
        }
        config
    }

    /// Clients are told the listening address unless another is set; a wildcard is never told.
    #[test]
    fn the_advertised_address_follows_from_the_listening_one() {
        let advertised = |listen: &str, advertise: &str| {
            let config = config(listen, advertise, &[]);
            let all = config.all_listeners().ok()?;
            Some((all[0].host.to_owned(), all[0].port))
        };
        let host = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(advertised("127.0.0.1:9092", ""), host("127.0.0.1", 9092));
        assert_eq!(advertised("[::1]:0", ""), host("::1", 0));
        assert_eq!(advertised("0.0.0.0:9092", "broker:19092"), host("broker", 19092));
        let bad = [
            ("0.0.0.0:9092", ""),
            ("[::]:9092", ""),
            ("nowhere", ""),
            ("a:1", "b:x"),
            ("a:1", "0.0.0.0:1"),
        ];
        for (listen, advertise) in bad {
            assert_eq!(advertised(listen, advertise), None, "{listen} {advertise}");
        }
    }

    /// The first listener comes first and keeps its name; each has its own addresses.
    #[test]
    fn listeners_have_addresses_of_their_own() {
        let config = config(
            "0.0.0.0:9092",
            "inside:0",
            &[("OUT", "0.0.0.0:9094", "outside:443"), ("LOCAL", "127.0.0.1:9096", "")],
        );
        let all = config.all_listeners().unwrap();
        let shown: Vec<_> = all.iter().map(|each| (each.name, each.host, each.port)).collect();
        assert_eq!(
            shown,
            [
                (DEFAULT_NAME, "inside", 0),
                ("LOCAL", "127.0.0.1", 9096),
                ("OUT", "outside", 443)
            ]
        );
    }

    /// What can't work is refused with the setting's name.
    #[test]
    fn a_bad_listener_is_named() {
        let cases: [(&str, &str, &str, &str); 5] = [
            ("OUT", "", "", "frontend.listeners.OUT.listen is needed"),
            (
                "OUT",
                "0.0.0.0:1",
                "",
                "frontend.listeners.OUT.advertise must say what clients connect to",
            ),
            (
                "OUT",
                "a:1",
                "b",
                "frontend.listeners.OUT.advertise is \"b\", expected HOST:PORT",
            ),
            (DEFAULT_NAME, "a:1", "", "is called as the first listener is"),
            ("a b", "a:1", "", "is \"a b\": letters, digits"),
        ];
        for (name, listen, advertise, expected) in cases {
            let config = config("127.0.0.1:1", "", &[(name, listen, advertise)]);
            let error = config.validate().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
