//! What watches a cluster in CloudWatch: a dashboard and alarms, made from the catalogue.
//!
//! Decide, pure: [`series`] (what may be named), [`alarms`], [`dashboard`], [`bodies`] (as the API has
//! them), [`stack`] (as CloudFormation and Terraform have them). Do: `apply` (the SDK, cargo feature
//! `cloudwatch`).

pub mod alarms;
#[cfg(feature = "cloudwatch")]
pub mod apply;
pub mod bodies;
pub mod dashboard;
pub mod series;
pub mod stack;

/// Whom it is about, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Namespace of the metrics: `cloudwatch.namespace`.
    pub namespace: String,
    /// Value of the dimension `Cluster`: `cloudwatch.cluster`.
    pub cluster: String,
    /// What all names begin with.
    pub prefix: String,
    /// Where the metrics are.
    pub region: String,
}

impl Subject {
    /// The cluster in a region, with names that the API takes: `koorde-` and the cluster, where what is
    /// neither letter, digit nor `_` is `-`.
    #[must_use]
    pub fn new(namespace: &str, cluster: &str, region: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            cluster: cluster.to_owned(),
            prefix: prefix(cluster),
            region: region.to_owned(),
        }
    }
}

/// What the names of a cluster's dashboard and alarms begin with.
#[must_use]
pub fn prefix(cluster: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    let cluster: String = cluster.chars().map(plain).collect();
    format!("koorde-{cluster}")
}

/// Where the runbook is.
pub const RUNBOOK: &str = "https://github.com/koorde/koorde/blob/main/helm/koorde/RUNBOOK.md";
