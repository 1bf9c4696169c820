//! The examples are the `[[example]]` targets of this package: `cargo run -p koorde-examples --example
//! hyper_util`.
