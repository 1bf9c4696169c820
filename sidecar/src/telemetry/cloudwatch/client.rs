//! The SDK's client, with the credentials and the region that the AWS SDKs find.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_cloudwatch::{Client, config::SharedHttpClient};

use super::connector;

/// Where CloudWatch is, and how long it may take.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The region, if it is not the one that the SDK finds.
    pub region: Option<String>,
    /// The endpoint, if it is not the region's.
    pub endpoint: Option<String>,
    /// Of a connection, and of an answer.
    pub bound: Duration,
    /// Tries of a call.
    pub tries: u32,
}

impl Way {
    /// Looks for region and credentials, and makes a client; it calls nobody yet but those who tell them.
    pub(super) async fn client(&self) -> Client {
        let http = SharedHttpClient::new(connector::Connector::new(self.bound));
        let retries = if self.tries > 1 {
            RetryConfig::standard().with_max_attempts(self.tries)
        } else {
            RetryConfig::disabled()
        };
        // No timeouts of the SDK's: the connector has its own, and knows whether something was sent.
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(retries);
        if let Some(region) = self.region.clone() {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = self.endpoint.clone() {
            loader = loader.endpoint_url(endpoint);
        }
        Client::new(&loader.load().await)
    }
}

/// Where a client calls, if that was found.
pub(super) fn region(client: &Client) -> Option<&str> {
    client.config().region().map(AsRef::as_ref)
}
