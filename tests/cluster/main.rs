//! Real nodes over real sockets: few tests, and short.

mod bodies;
mod collapse;
mod egress;
mod failure;
mod found;
mod handoff;
mod invalidation;
mod look_aside;
mod look_aside_peers;
mod look_aside_safety;
mod passing;
mod protection;
mod purge;
mod ranges;
mod reuse;
mod silence;
mod uploads;
mod upstreams;
