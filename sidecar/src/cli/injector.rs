//! `koorde injector`: the webhook as a process.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use super::Failure;
use crate::{
    inject::InjectSettings,
    injector::{ApiServer, Injector, InjectorSettings, Lifetimes, OwnCertificates, Source},
    settings::{environment, load},
    shutdown::Signals,
    telemetry::Telemetry,
};

/// Where the kubelet puts what a pod needs to call the API server.
const IN_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Run the webhook that adds the sidecar to pods as they are made.
///
/// It answers POST /inject (AdmissionReview v1) over TLS, never keeps a pod from starting but for one that
/// asks for what does not exist, and looks after its own certificate. Logs are set by KOORDE_LOG__LEVEL,
/// KOORDE_LOG__FORMAT and KOORDE_LOG__MAX_LINES.
#[derive(Clone, Debug, clap::Args)]
pub struct InjectorArgs {
    /// What sidecars are made from: a file of YAML or JSON
    #[arg(long, short, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// One setting, such as resources.memory_limit=512Mi; more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where API servers connect, with TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are, without TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// PEM file of the certificate chain, leaf first, read again when it changes [default: a certificate of
    /// its own, in a Secret]
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Name of the Secret that keeps the injector's own certificates, for all replicas
    #[arg(long, value_name = "NAME", default_value = "koorde-injector-certs")]
    pub secret: String,
    /// Namespace of the Secret [default: the pod's own]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// DNS names of the webhook's Service, for its own certificate [default: koorde-injector.NAMESPACE.svc]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub dns_name: Vec<String>,
    /// The MutatingWebhookConfiguration whose caBundle is kept
    #[arg(long, value_name = "NAME", default_value = "koorde-injector")]
    pub configuration: String,
    /// The webhooks in it
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values = ["namespace.koorde.dev", "pod.koorde.dev"])]
    pub webhook: Vec<String>,
    /// How long the injector's own authority is valid
    #[arg(long, value_name = "DURATION", default_value = "365days", value_parser = duration)]
    pub authority_lifetime: Duration,
    /// How long the injector's own certificate is valid
    #[arg(long, value_name = "DURATION", default_value = "7days", value_parser = duration)]
    pub cert_lifetime: Duration,
    /// Where the API server is [default: where Kubernetes tells its pods that it is]
    #[arg(long, value_name = "URL")]
    pub api_server: Option<String>,
    /// PEM file of the API server's authority
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )]
    pub api_ca: PathBuf,
    /// File with the token for the API server
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub api_token: PathBuf,
    /// After SIGTERM: how long to answer on while not ready
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// Then: how long reviews under way may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub drain_finish: Duration,
}

/// Runs until SIGTERM or SIGINT, then ends in order. A second signal ends the process at once.
///
/// # Errors
/// [`Failure::Usage`] for settings that are wrong; [`Failure::Work`] if it cannot start.
pub async fn run(args: InjectorArgs) -> Result<ExitCode, Failure> {
    let signals = Signals::listen();
    let settings = settings(args)?;
    // For the logs; the rest is a node's.
    let process = load(None, &[]).map_err(|error| Failure::Usage(error.to_string()))?;
    let _telemetry = Telemetry::install(&process.settings);
    let injector = Injector::start(settings).await;
    let injector = injector.map_err(|error| Failure::Work(error.to_string()))?;
    Ok(super::serve::end(signals, injector.shutdown()).await)
}

fn settings(args: InjectorArgs) -> Result<InjectorSettings, Failure> {
    let inject =
        InjectSettings::load(args.settings.as_deref(), &args.set).map_err(Failure::Usage)?;
    let url = args.api_server.or_else(environment::kubernetes_api);
    let api = url.map(|url| ApiServer {
        url: url.trim_end_matches('/').to_owned(),
        ca_file: args.api_ca,
        token_file: args.api_token,
    });
    let source = match (args.cert, args.key) {
        (Some(cert), Some(key)) => Source::Files { cert, key },
        _ => {
            let of_pod = || fs::read_to_string(format!("{IN_POD}/namespace")).ok();
            let namespace = args
                .namespace
                .or_else(of_pod)
                .map(|name| name.trim().to_owned());
            let namespace = namespace.ok_or_else(|| {
                Failure::Usage(
                    "--namespace: must be given outside of a pod (or --cert and --key)".into(),
                )
            })?;
            let names = if args.dns_name.is_empty() {
                vec![format!("koorde-injector.{namespace}.svc")]
            } else {
                args.dns_name
            };
            Source::Own(OwnCertificates {
                namespace,
                secret: args.secret,
                names,
                configuration: args.configuration,
                webhooks: args.webhook,
                lifetimes: Lifetimes {
                    authority: args.authority_lifetime,
                    cert: args.cert_lifetime,
                },
            })
        }
    };
    Ok(InjectorSettings {
        listen: args.listen,
        admin: args.admin_listen,
        inject,
        source,
        api,
        delay: args.drain_delay,
        finish: args.drain_finish,
    })
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}
