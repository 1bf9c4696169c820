//! Compiles the `.proto` files in pure Rust, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "koorde/ring/v1/ring.proto",
        "koorde/peer/v1/peer.proto",
        "koorde/cache/v1/cache.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        // Channels and accept loops are built in libkoorde, which bounds them.
        .build_transport(false)
        // Bodies stay the network's own buffers instead of being copied into a `Vec`.
        .bytes(".koorde.peer.v1")
        .bytes(".koorde.cache.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
