//! Sends metrics to the collector, over gRPC or HTTP.
//!
//! `opentelemetry-otlp`, by which traces go, cannot be given them: it sends the SDK's `ResourceMetrics`, which
//! nobody outside the SDK can build (the fields are `pub(crate)`), and so only what the SDK's own
//! instruments have recorded; ours are recorded once, in the catalogue's. The messages and the client of
//! gRPC are `opentelemetry-proto`'s.
//! <https://opentelemetry.io/docs/specs/otlp/>

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use tokio::time::timeout;
use tonic::{metadata::MetadataMap, transport::Channel};

use super::{
    super::chain,
    way::{Http, Way},
};

/// Sends one message, within `bound`. Never again: the next has these figures in it.
///
/// # Errors
/// It was not taken, or not all of it, and why.
pub(super) async fn send(
    way: &Way,
    message: ExportMetricsServiceRequest,
    bound: Duration,
) -> Result<(), String> {
    let sent = async {
        match way {
            Way::Grpc(channel, fields) => call(channel.clone(), fields.clone(), message).await,
            Way::Http(http) => post(http, &message).await,
        }
    };
    let answer = timeout(bound, sent)
        .await
        .map_err(|_elapsed| format!("no answer within {bound:?}"))??;
    match answer.partial_success {
        Some(part) if part.rejected_data_points != 0 => Err(format!(
            "{} of them were not taken: {}",
            part.rejected_data_points, part.error_message
        )),
        _ => Ok(()),
    }
}

async fn call(
    channel: Channel,
    fields: MetadataMap,
    message: ExportMetricsServiceRequest,
) -> Result<ExportMetricsServiceResponse, String> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = fields;
    let answer = MetricsServiceClient::new(channel).export(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| {
        let why = std::error::Error::source(&status).map(chain);
        let why = why.unwrap_or_else(|| status.message().to_owned());
        format!("{:?}: {why}", status.code())
    })
}

async fn post(
    http: &Http,
    message: &ExportMetricsServiceRequest,
) -> Result<ExportMetricsServiceResponse, String> {
    let body = Bytes::from(message.encode_to_vec());
    let request = Request::post(http.url("/v1/metrics")).body(body);
    let request = request.map_err(|error| error.to_string())?;
    let answer = http.send(request).await.map_err(|error| chain(&*error))?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    ExportMetricsServiceResponse::decode(answer.into_body()).map_err(|error| chain(&error))
}
