//! Compiles the .proto files with protox, so that building needs no protoc on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/dewpoint/event/v1/event.proto",
        "proto/dewpoint/agent/v1/agent.proto",
        "proto/dewpoint/fleet/v1/fleet.proto",
        "proto/dewpoint/local/v1/local.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        protox::prost_reflect::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
