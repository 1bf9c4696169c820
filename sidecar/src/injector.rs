//! The webhook that gives pods their sidecars (`koorde injector`): a process without a node.
//!
//! ```text
//! API server ──TLS──► Listener ── door ── review (pure: bytes → answer) ── inject (pure)
//!                        ▲                   └► events, a bounded queue ──► API server
//!                  certificates: self (one Secret, caBundle set by itself) │ files (reloaded)
//! ```
//!
//! It never keeps a pod from starting, but for one that asks for what does not exist: what it cannot
//! do, it lets through with a warning. It talks to the API server for its certificates and events only,
//! never on the way of a review.
//!
//! | module | what it is for |
//! |---|---|
//! | `review` | AdmissionReview v1 from bytes to the answer, pure |
//! | `door` | the paths of the webhook, and the bounds of a request |
//! | `certificates` | making, keeping and renewing them; reading files again |
//! | `api` | the few calls of the API server |
//! | `events` | what the owners of pods are told |
//! | `run` | the process: starts all in order, ends it in order |

mod api;
pub mod catalogue;
mod certificates;
mod clock;
mod door;
mod events;
mod metrics;
mod review;
mod run;

pub use api::{ApiError, ApiServer};
pub use certificates::{Lifetimes, OwnCertificates, Source};
pub(crate) use certificates::{is_signed_by, names_of, pem_blocks, validity};
pub use review::{Answer, Event, Outcome, answer};
pub use run::{Addresses, Injector, InjectorError, InjectorSettings};
