//! What must hold of any bytes from outside. A file a target, each with one function of bytes that
//! panics where something does not hold; `tests/fuzz/run` feeds them.
//!
//! | target | who sends the bytes |
//! |---|---|
//! | [`response`] | an origin, and clients that come later |
//! | [`request`] | a client: targets, keys, rules of routes, doors |
//! | [`range`] | a client: Range, and the bytes it is sent for it |
//! | [`head`] | clients and nodes: Accept, Cache-Status, interim responses |
//! | [`purge`] | who may purge: the query of `/purge` |
//! | [`egress`] | a client: every spelling of an address |
//! | [`wire`] | a peer: each message of the cache and of the ring |
//! | [`ring`] | a peer: a whole conversation with one node's ring |
//! | [`config`] | an operator: files, variables, flags |
//! | [`review`] | the Kubernetes API server: a pod to be injected |

pub mod config;
pub mod egress;
pub mod head;
pub mod input;
pub mod purge;
pub mod range;
pub mod request;
pub mod response;
pub mod review;
pub mod ring;
pub mod wire;
