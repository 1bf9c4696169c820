//! Real nodes over real sockets: few tests, and short.

mod bodies;
mod collapse;
mod egress;
mod failure;
mod passing;
mod purge;
mod ranges;
mod reuse;
