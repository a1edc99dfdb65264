//! Logs on stderr, and panics among them.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;
use crate::layers::ConfigError;

/// To be called once a process.
///
/// # Errors
/// If the filter can't be parsed.
pub fn start(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|error| ConfigError(format!("log.filter = {:?}: {error}", config.filter)))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let location = panic.location().map_or_else(String::new, ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            location,
            "panicked: {message}"
        );
    }));
    Ok(())
}
