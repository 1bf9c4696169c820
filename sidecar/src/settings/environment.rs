//! The environment, read here and nowhere else.
#![allow(clippy::disallowed_methods, reason = "this is the place")]

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::PathBuf,
};

use super::keys;

/// Variables that name settings: `KOORDE_<SECTION>__<KEY>`, and `KOORDE_ROUTES` and the like for
/// tables that are no section.
///
/// Any other without `__` is none of ours: Kubernetes puts `KOORDE_SERVICE_HOST`, `KOORDE_PORT` and more
/// into every pod beside a Service named `koorde`, and that must not keep a node from starting.
#[must_use]
pub fn variables() -> Vec<(String, String)> {
    let all = env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
    let mut ours: Vec<_> = all.filter(|(name, _)| is_setting(name)).collect();
    ours.sort();
    ours
}

fn is_setting(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("KOORDE_") else {
        return false;
    };
    match rest.split_once("__") {
        Some((section, _)) => !section.is_empty(),
        None => keys::find(&rest.to_lowercase()).is_some(),
    }
}

fn lossy(text: std::ffi::OsString) -> String {
    text.to_string_lossy().into_owned()
}

/// `KOORDE_CONFIG`: the file to read when no flag names one.
#[must_use]
pub fn config_file() -> Option<PathBuf> {
    env::var_os("KOORDE_CONFIG")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The region that AWS's tools are told: `AWS_REGION`, else `AWS_DEFAULT_REGION`.
#[must_use]
pub fn aws_region() -> Option<String> {
    let told = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter();
    let mut told = told.filter_map(|name| env::var(name).ok());
    told.find(|region| !region.is_empty())
}

/// Where Kubernetes says that its API server is: `https://host:port`; none outside of a pod.
#[must_use]
pub fn kubernetes_api() -> Option<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".into());
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Some(format!("https://{host}:{port}"))
}

/// The host's name: `HOSTNAME`, else the file `/etc/hostname`, else `koorde`. In Kubernetes it is
/// the pod's name.
#[must_use]
pub fn host_name() -> String {
    let variable = env::var("HOSTNAME").ok();
    let file = || fs::read_to_string("/etc/hostname").ok();
    let named = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let name = variable.and_then(named).or_else(|| file().and_then(named));
    name.unwrap_or_else(|| "koorde".into())
}

/// Whether standard error, where logs go, is a terminal.
#[must_use]
pub fn logs_to_a_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_kubernetes_service_named_koorde_are_not_settings() {
        for name in [
            "KOORDE_SERVICE_HOST",
            "KOORDE_PORT",
            "KOORDE_PORT_8080_TCP_ADDR",
            "KOORDE__X",
        ] {
            assert!(!is_setting(name), "{name}");
        }
        for name in [
            "KOORDE_STORE__CAPACITY",
            "KOORDE_ROUTES",
            "KOORDE_UPSTREAMS",
        ] {
            assert!(is_setting(name), "{name}");
        }
    }
}
