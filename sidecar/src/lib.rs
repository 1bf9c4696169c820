//! The koorde sidecar: one node of the cluster-wide HTTP cache as a process.
//!
//! The library ([`libkoorde`]) decides and does; this crate serves. Kubernetes, exporters, files and
//! flags exist only here.
//!
//! ```no_run
//! use koorde_sidecar::{app::App, settings::Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::default();
//! settings.http.listen = "127.0.0.1:0".parse()?;
//! settings.egress.allow = vec!["origin.internal".into()];
//! let app = App::start(settings).await?;
//! println!("http://{}/cache?url=…", app.addresses().http);
//! app.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//! | module | what it is for |
//! |---|---|
//! | [`settings`] | what the process is told, and by whom: file, environment, flags |
//! | [`app`] | one process: starts everything in order, ends it in order |
//! | [`http`] | listeners: bounds and timers of connections, paths, errors as answers |
//! | `admin` | `/debug/*`, `/purge` |
//! | [`telemetry`] | logs, traces, the three forms of `/metrics` |
//! | [`discovery`] | names of peers, resolved for ever |
//! | [`shutdown`] | phases and signals |
//! | [`inject`] | adding the sidecar to a pod: pure, from JSON to a JSON patch |
//! | [`injector`] | the webhook that does it: its certificates, its events |
//! | [`cli`] | the command line |

pub mod admin;
pub mod app;
pub mod cli;
pub mod discovery;
pub mod http;
pub mod inject;
pub mod injector;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
