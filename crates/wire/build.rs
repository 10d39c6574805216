//! Generates the messages from `proto/`, without a protobuf compiler on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    const ROOT: &str = "../../proto";
    println!("cargo::rerun-if-changed={ROOT}");
    let purge = protox::compile([format!("{ROOT}/batoff/purge/v1/purge.proto")], [ROOT])?;
    // The service itself is written by hand (`grpc`): its streams carry encoded records, not generated structs.
    tonic_prost_build::configure().build_client(false).build_server(false).compile_fds(purge)?;
    let local = protox::compile([format!("{ROOT}/batoff/edge/v1/local.proto")], [ROOT])?;
    tonic_prost_build::configure().bytes(".").compile_fds(local)?;
    Ok(())
}
