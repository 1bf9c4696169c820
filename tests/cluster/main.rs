//! Real nodes over real sockets: few tests, and short.

mod bodies;
mod collapse;
mod failure;
mod reuse;
