//! A start after `kill -9`, with much in the WAL that isn't uploaded yet.
//!
//! The file of the device is written around the page cache, so what recovery reads comes from the disk.

use anyhow::{Result, ensure};
use tailwater_tests::Server;

use crate::{Arguments, Figures, load};

/// Nothing is uploaded, and the device has room for all of it.
const CONFIG: &str = r#"
[wal]
capacity = "4GiB"
[compactor]
trigger_bytes = "1TiB"
trigger_age = "24h"
trigger_device_percent = 100
"#;

pub fn measure(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let mut server = Server::new(CONFIG).binary(&arguments.binary);
    server.start();
    load(&arguments.python, &server, "produce", arguments.unuploaded_records)?;
    let gigabytes = server.metrics().sum("tailwater_upload_lag_bytes") / 1e9;
    ensure!(gigabytes > 0.0, "everything was uploaded already");
    server.kill9();
    let took = server.start().as_secs_f64();
    figures.add("killed with so much not uploaded", gigabytes, "GB");
    figures.add("start to ready after that kill", took * 1e3, "ms");
    figures.add("start to ready after that kill, for each GB", took / gigabytes, "s/GB");
    server.kill9();
    Ok(())
}
