//! `PutMetricData` by the AWS SDK. Tries are ours to count: the SDK makes one.

use aws_sdk_cloudwatch::{
    Client,
    error::SdkError,
    operation::put_metric_data::PutMetricDataError,
    primitives::DateTime,
    types::{Dimension as SdkDimension, MetricDatum, StandardUnit},
};

use super::{
    client::{Way, region},
    connector,
    outbox::Sent,
    pack::{Dimension, Row},
};
use crate::{settings::CloudWatchSettings, telemetry::chain};

/// The API's client. It is made with the first call: until then nothing is looked for.
pub(super) struct Api {
    namespace: String,
    /// Seconds that CloudWatch keeps as one.
    resolution: i32,
    way: Way,
    sets: Vec<Vec<SdkDimension>>,
    client: Option<Client>,
}

impl Api {
    pub(super) fn new(settings: &CloudWatchSettings, sets: Vec<Vec<Dimension>>) -> Self {
        let dimension =
            |(name, value): Dimension| SdkDimension::builder().name(name).value(value).build();
        let set = |set: Vec<Dimension>| set.into_iter().map(dimension).collect();
        Self {
            namespace: settings.namespace.clone(),
            resolution: if settings.is_fine() { 1 } else { 60 },
            way: Way {
                region: settings.region.clone(),
                endpoint: settings.endpoint.clone(),
                bound: settings.timeout,
                tries: 1,
            },
            sets: sets.into_iter().map(set).collect(),
            client: None,
        }
    }

    pub(super) async fn send(&mut self, rows: &[Row]) -> Sent {
        let data = rows.iter().map(|row| self.datum(row)).collect();
        let client = match self.client.take() {
            Some(client) => client,
            None => self.way.client().await,
        };
        // Whoever tells the region may not have answered yet: without one it is asked again.
        let Some(_) = region(&client) else {
            return Sent::Later("no region was found: set cloudwatch.region".to_owned());
        };
        let request = client.put_metric_data().namespace(&self.namespace);
        let sent = request.set_metric_data(Some(data)).send().await;
        self.client = Some(client);
        match sent {
            Ok(_) => Sent::Ok,
            Err(error) => judge(&error),
        }
    }

    fn datum(&self, row: &Row) -> MetricDatum {
        let (values, counts) = row.values.iter().map(|(v, n)| (*v, *n as f64)).unzip();
        let at = i64::try_from(row.at).unwrap_or(i64::MAX);
        MetricDatum::builder()
            .metric_name(row.name)
            .unit(StandardUnit::from(row.unit))
            .timestamp(DateTime::from_millis(at))
            .storage_resolution(self.resolution)
            .set_dimensions(Some(self.sets[row.set].clone()))
            .set_values(Some(values))
            .set_counts(Some(counts))
            .build()
    }
}

/// What became of a call that has failed. Sent twice it would count twice, so what may have arrived is
/// not sent again.
fn judge(error: &SdkError<PutMetricDataError>) -> Sent {
    let why = chain(error);
    match error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let code = answer.err().meta().code().unwrap_or_default();
            // What is wrong with the credentials may be put right; what is wrong with the data not.
            let is_of_the_data = [
                "InvalidParameter",
                "InvalidFormat",
                "MissingRequiredParameter",
                "ValidationError",
            ]
            .iter()
            .any(|word| code.contains(word));
            if is_of_the_data || status == 413 {
                Sent::Refused(format!("{code}: {why}"))
            } else if lost_behind(status) {
                Sent::Unknown(format!("{code} ({status}): {why}"))
            } else {
                Sent::Later(format!("{code} ({status}): {why}"))
            }
        }
        // It answered, in words that are not CloudWatch's: a proxy, a throttle before it.
        SdkError::ResponseError(answer) => match answer.raw().status() {
            status if status.is_success() || lost_behind(status.as_u16()) => Sent::Unknown(why),
            _ => Sent::Later(why),
        },
        SdkError::ConstructionFailure(_) => Sent::Later(why),
        SdkError::DispatchFailure(failure) => {
            let failure = failure.as_connector_error();
            if failure.is_some_and(connector::may_have_arrived) {
                Sent::Unknown(why)
            } else {
                Sent::Later(why)
            }
        }
        _ => Sent::Unknown(why),
    }
}

/// Whether somebody on the way says that he has had no answer: CloudWatch may have taken it.
const fn lost_behind(status: u16) -> bool {
    matches!(status, 502 | 504)
}
