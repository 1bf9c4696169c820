//! `koorde dev --once`: one page through two nodes, and whether the origin was asked once.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use serde::Serialize;

use super::{cluster::NodeRow, origin::Demo};
use crate::cli::{
    Endpoint, Failure, cache_status,
    client::{Client, root_cause},
    clock,
    get::x_cache_in_words,
    output,
};

const PAGE: &str = "/page";

/// What was seen.
#[derive(Debug, Serialize)]
struct Proof {
    url: String,
    answers: Vec<Answer>,
    origin_requests: u64,
    /// What was not as it should be; empty if all was.
    problems: Vec<String>,
}

/// One answer of one node.
#[derive(Debug, Default, Serialize)]
struct Answer {
    node: String,
    endpoint: String,
    status: u16,
    x_cache: String,
    cache_status: String,
    age: Option<u64>,
    ms: f64,
    #[serde(skip)]
    body: Bytes,
}

/// Fetches the page through two of `nodes` (through the one twice, if it is alone) and reports.
///
/// # Errors
/// It was not as it should be.
pub(super) async fn prove(demo: &Demo, nodes: &[NodeRow], json: bool) -> Result<(), Failure> {
    let client = Client::new(Duration::from_secs(30), 1)?;
    let url = format!("http://{}{PAGE}", demo.address());
    let mut answers = Vec::with_capacity(2);
    for node in nodes.iter().cycle().take(2) {
        answers.push(fetch(&client, node, &url).await?);
    }
    let origin_requests = demo.count(PAGE);
    let problems = problems(&answers, origin_requests);
    let proof = Proof {
        url,
        answers,
        origin_requests,
        problems,
    };
    if json {
        output::json_line(&proof)?
    } else {
        output::line(proof.text())?
    }
    match proof.problems.as_slice() {
        [] => Ok(()),
        problems => Err(Failure::Work(format!(
            "it was not as it should be: {}",
            problems.join("; ")
        ))),
    }
}

async fn fetch(client: &Client, node: &NodeRow, url: &str) -> Result<Answer, Failure> {
    let endpoint: Endpoint = node.url.parse().map_err(Failure::Work)?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = endpoint.about("/cache", url)?;
    let start = clock::now();
    let response = client
        .send(request)
        .await
        .map_err(|error| error.at(&endpoint, "--node"))?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| {
        Failure::Work(format!(
            "the answer of {} was cut off: {}",
            node.name,
            root_cause(&error)
        ))
    })?;
    let text = |name| text(&head.headers, name);
    Ok(Answer {
        node: node.name.clone(),
        endpoint: node.url.clone(),
        status: head.status.as_u16(),
        x_cache: text("x-cache"),
        cache_status: text("cache-status"),
        age: text("age").parse().ok(),
        ms: start.elapsed().as_secs_f64() * 1000.0,
        body: body.to_bytes(),
    })
}

fn text(fields: &HeaderMap, name: &str) -> String {
    let lines: Vec<_> = fields
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    lines.join(", ")
}

/// What the promise is, turned round.
fn problems(answers: &[Answer], origin_requests: u64) -> Vec<String> {
    let mut problems = Vec::new();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        problems.push(format!("{} answered {}", answer.node, answer.status));
    }
    if answers.windows(2).any(|pair| pair[0].body != pair[1].body) {
        problems.push("the bodies differ".to_owned());
    }
    if origin_requests != 1 {
        problems.push(format!("the origin was asked {origin_requests} times"));
    }
    if let Some(last) = answers
        .last()
        .filter(|answer| !answer.x_cache.starts_with("HIT-"))
    {
        problems.push(format!(
            "{} says {:?} where a hit should be",
            last.node, last.x_cache
        ));
    }
    problems
}

impl Proof {
    fn text(&self) -> String {
        let mut lines = vec![self.url.clone(), String::new()];
        for answer in &self.answers {
            let time = output::millis(Duration::from_secs_f64(answer.ms / 1000.0));
            let age = answer
                .age
                .map_or_else(String::new, |age| format!(", age {age} s"));
            lines.push(format!(
                "through {} at {}: {} in {time}{age}",
                answer.node, answer.endpoint, answer.status
            ));
            lines.push(format!("  {}", x_cache_in_words(&answer.x_cache)));
            lines.push(format!("  Cache-Status: {}", answer.cache_status));
            for member in cache_status::parse(&answer.cache_status) {
                lines.push(format!("    {}: {}", member.name(), member.words()));
            }
        }
        lines.push(String::new());
        let asked = output::counted(self.origin_requests, "origin request");
        lines.push(format!("{asked} for {} answers", self.answers.len()));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(x_cache: &str) -> Answer {
        Answer {
            node: "koorde-0".to_owned(),
            status: 200,
            x_cache: x_cache.to_owned(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_miss_and_then_a_hit_anywhere_is_as_it_should_be() {
        for hit in ["HIT-LOCAL", "HIT-REMOTE"] {
            assert_eq!(
                problems(&[answer("MISS-ORIGIN"), answer(hit)], 1),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn everything_else_is_named() {
        let failed = Answer {
            status: 502,
            ..answer("ERROR")
        };
        assert_eq!(problems(&[failed, answer("MISS-ORIGIN")], 2).len(), 3);
        let other = Answer {
            body: Bytes::from("other"),
            ..answer("HIT-LOCAL")
        };
        assert_eq!(
            problems(&[answer("MISS-ORIGIN"), other], 1),
            ["the bodies differ"]
        );
    }
}
