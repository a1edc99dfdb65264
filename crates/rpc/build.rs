//! Messages, clients and servers out of `proto/`, without protoc: protox parses, tonic generates.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", protos.display());
    let files = protox::compile(["wal.proto", "controller.proto", "frontend.proto"], [&protos])?;
    tonic_prost_build::configure()
        .bytes(".")
        .generate_default_stubs(false)
        .compile_fds(files)?;
    Ok(())
}
