//! Real nodes over real sockets: few tests, and short.

mod bodies;
mod collapse;
mod egress;
mod failure;
mod found;
mod invalidation;
mod passing;
mod protection;
mod purge;
mod ranges;
mod reuse;
mod uploads;
mod upstreams;
