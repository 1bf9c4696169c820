//! What the tests share: the simulator of the ring, and real nodes and origins on loopback.

pub mod app;
pub mod behaviour;
pub mod cluster;
pub mod oracle;
pub mod origin;
pub mod process;
pub mod replica;
pub mod rollout;
pub mod rules;
pub mod sim;
