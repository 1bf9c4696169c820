//! Real nodes over real sockets: few tests, and short.

mod bodies;
mod collapse;
mod egress;
mod failure;
mod protection;
mod reuse;
mod uploads;
mod upstreams;
