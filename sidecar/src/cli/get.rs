//! `koorde get`: fetches a URL through a node and shows the way it took.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;

use super::{
    Endpoint, Failure,
    cache_status::{self, Member},
    client::{self, Client, root_cause},
    clock, output,
};

/// Fetch a URL through a node
///
/// The body goes to stdout as it arrives. With -v stderr tells how it came: which node was asked,
/// what each cache on the way did (Cache-Status, RFC 9211), how old the response is, how long it took.
///
/// Ends with 1 if there is no response, if it ends early, or if its status is 400 or more.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GetArgs {
    /// What to fetch: an absolute http or https URL
    #[arg(value_name = "URL", value_parser = client::target)]
    url: String,
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    node: Endpoint,
    /// A request field to send; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    fields: Vec<(HeaderName, HeaderValue)>,
    /// Ask for the head only (HEAD)
    #[arg(long)]
    head: bool,
    /// Write the body to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show the way the response took, on stderr
    #[arg(short, long)]
    verbose: bool,
    /// With -v or --json: ask this admin listener of the same node for the URL's owner
    #[arg(long, value_name = "URL")]
    admin: Option<Endpoint>,
    /// Longest wait for the head, and for each next piece of the body
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime_serde::re::humantime::parse_duration)]
    timeout: Duration,
    /// Write the way to stdout as JSON; the body only goes to -o FILE
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde get https://example.com/ | head
  koorde get -v http://127.0.0.1:9000/page                  twice: a miss, then a hit
  koorde get -v -H 'Accept-Language: de' http://127.0.0.1:9000/vary
  koorde get -v -H 'Cache-Control: no-cache' https://example.com/    have it validated
  koorde get --head --json https://example.com/ | jq .x_cache
  koorde get -v --node http://127.0.0.1:8081 --admin http://127.0.0.1:9091 https://example.com/";

/// Reads `Name: value`.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .map_err(|_| format!("{name:?} is no field name"))?;
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_| format!("{value:?} is no field value"))?;
    Ok((name, value))
}

/// The way a response took.
#[derive(Debug, Serialize)]
struct Way {
    url: String,
    /// The node that was asked.
    endpoint: String,
    /// Its name.
    node: Option<String>,
    /// The owner of the URL, if an admin listener was asked.
    owner: Option<String>,
    status: u16,
    x_cache: Option<String>,
    age: Option<u64>,
    cache_status: Vec<Member>,
    /// All fields of the response.
    fields: Vec<(String, String)>,
    bytes: u64,
    head_ms: f64,
    total_ms: f64,
}

/// Fetches, writes the body, tells the way.
///
/// # Errors
/// No response, an incomplete one, an error status, or nowhere to write to.
pub async fn run(args: GetArgs) -> Result<(), Failure> {
    let client = Client::new(args.timeout, 1)?;
    let request = request(&args)?;
    let start = clock::now();
    let response = client
        .send(request)
        .await
        .map_err(|error| error.at(&args.node, "--node"))?;
    let mut way = Way::new(&args, &response, start.elapsed());
    if args.verbose || args.json {
        way.owner = owner(&args).await?;
    }
    if args.verbose {
        way.tell_head();
    }
    let written = write_body(response, &args, &mut way.bytes).await;
    way.total_ms = start.elapsed().as_secs_f64() * 1000.0;
    if args.verbose {
        way.tell_end();
    }
    written?;
    if args.json {
        output::json(&way)?;
    }
    if way.status >= 400 {
        return Err(Failure::Work(format!(
            "the answer to {} is {}",
            client::clip(&args.url),
            way.status
        )));
    }
    Ok(())
}

fn request(args: &GetArgs) -> Result<Request<Empty<Bytes>>, Failure> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = if args.head { Method::HEAD } else { Method::GET };
    *request.uri_mut() = args.node.about("/cache", &args.url)?;
    for (name, value) in &args.fields {
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

/// Who owns the URL, asked of the admin listener.
async fn owner(args: &GetArgs) -> Result<Option<String>, Failure> {
    let Some(admin) = &args.admin else {
        return Ok(None);
    };
    let uri = admin.about("/debug/explain", &args.url)?;
    let report = Client::for_reports()?.report(admin, uri).await?;
    Ok(report
        .pointer("/owners/0")
        .and_then(Value::as_str)
        .map(str::to_owned))
}

/// Passes the body on, piece by piece, and counts it.
async fn write_body(
    response: Response<Incoming>,
    args: &GetArgs,
    bytes: &mut u64,
) -> Result<(), Failure> {
    let (mut sink, name): (Box<dyn Write + Send>, String) = match &args.output {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::create(path).map_err(|error| Failure::write(&name, &error))?;
            (Box::new(file), name)
        }
        None if args.json => (Box::new(io::sink()), "nowhere".to_owned()),
        None => (Box::new(io::stdout()), "stdout".to_owned()),
    };
    let mut body = response.into_body();
    loop {
        let frame = match tokio::time::timeout(args.timeout, body.frame()).await {
            Err(_) => {
                let after = format!("no more came for {:?} after {bytes} bytes", args.timeout);
                return Err(Failure::Work(format!("the body is incomplete: {after}")));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let cause = root_cause(&error);
                return Err(Failure::Work(format!(
                    "the body is incomplete: cut off after {bytes} bytes ({cause})"
                )));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            *bytes += data.len() as u64;
            // Blocking is fine: this process does nothing else, and a slow reader is to slow us down.
            sink.write_all(data)
                .and_then(|()| sink.flush())
                .map_err(|error| Failure::write(&name, &error))?;
        }
    }
    Ok(())
}

/// The text of a field, its lines joined as RFC 9110 §5.3 has it.
fn text(fields: &HeaderMap, name: &str) -> Option<String> {
    let lines: Vec<_> = fields
        .get_all(name)
        .iter()
        .map(|v| String::from_utf8_lossy(v.as_bytes()))
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

impl Way {
    fn new(args: &GetArgs, response: &Response<Incoming>, to_head: Duration) -> Self {
        let fields = response.headers();
        let all = fields.iter().map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        Self {
            url: args.url.clone(),
            endpoint: args.node.to_string(),
            node: text(fields, "x-node-id"),
            owner: None,
            status: response.status().as_u16(),
            x_cache: text(fields, "x-cache"),
            age: text(fields, "age").and_then(|age| age.parse().ok()),
            cache_status: text(fields, "cache-status")
                .map(|value| cache_status::parse(&value))
                .unwrap_or_default(),
            fields: all.collect(),
            bytes: 0,
            head_ms: to_head.as_secs_f64() * 1000.0,
            total_ms: 0.0,
        }
    }

    /// What is known once the head is there.
    fn tell_head(&self) {
        let node = self.node.as_deref().unwrap_or("a node without name");
        output::remark(format!("* asked     {node} at {}", self.endpoint));
        if let Some(owner) = &self.owner {
            let whose = if self.node.as_ref() == Some(owner) {
                "the asked node itself"
            } else {
                "another node"
            };
            output::remark(format!("* owner     {owner}, {whose}"));
        }
        output::remark(format!("* status    {}", self.status));
        output::remark(format!(
            "* X-Cache   {}",
            self.x_cache.as_deref().map_or("not sent", x_cache_in_words)
        ));
        for member in &self.cache_status {
            output::remark(format!("* way       {}: {}", member.name(), member.words()));
        }
        match self.age {
            Some(age) => output::remark(format!(
                "* age       {age} s since the origin made or confirmed it"
            )),
            None => output::remark("* age       not sent"),
        }
        for (name, value) in &self.fields {
            output::remark(format!("< {name}: {value}"));
        }
    }

    /// What is known once the body has ended.
    fn tell_end(&self) {
        let time = |ms: f64| output::millis(Duration::from_secs_f64(ms / 1000.0));
        let times = format!(
            "{} to the head, {} to the end",
            time(self.head_ms),
            time(self.total_ms)
        );
        output::remark(format!("* time      {times}"));
        output::remark(format!("* body      {}", output::bytes(self.bytes)));
    }
}

/// The values of X-Cache, each with what it means.
pub(crate) fn x_cache_in_words(value: &str) -> &str {
    match value {
        "HIT-LOCAL" => "HIT-LOCAL: from the asked node's own store",
        "HIT-REMOTE" => "HIT-REMOTE: from another node, the origin was not asked for it",
        "MISS-ORIGIN" => "MISS-ORIGIN: the origin was asked",
        "STALE" => "STALE: from the store although stale, as its policy allows",
        "REVALIDATED" => "REVALIDATED: from the store, the origin confirmed it",
        "BYPASS" => "BYPASS: not the cache's business, passed through",
        "ERROR" => "ERROR: there is no response to give",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::env::temp_dir;

    use clap::Parser;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::Frame;

    use super::*;
    use crate::cli::loopback::{Body, Loopback, body};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        get: GetArgs,
    }

    /// Runs `get` against a node that answers with `answer`.
    async fn get<A>(file: &str, flags: &[&str], answer: A) -> (Result<(), Failure>, Option<Vec<u8>>)
    where
        A: Fn(&Request<Incoming>) -> Response<Body> + Clone + Send + Sync + 'static,
    {
        let handler = move |request: Request<Incoming>| std::future::ready(answer(&request));
        let node = Loopback::start(0, handler).await.expect("loopback");
        let path = temp_dir().join(format!("koorde-get-{}-{file}", std::process::id()));
        let (endpoint, output) = (node.address().to_string(), path.display().to_string());
        let line = [
            "get",
            "--node",
            &endpoint,
            "-o",
            &output,
            "http://a.example/?q=1",
        ];
        let args = Line::try_parse_from(line.iter().chain(flags))
            .expect("valid")
            .get;
        let result = run(args).await;
        let written = std::fs::read(&path).ok();
        let _ = std::fs::remove_file(&path);
        (result, written)
    }

    #[tokio::test]
    async fn the_body_is_written_and_the_url_arrives_whole() {
        let (result, written) = get("ok", &["-H", "Accept-Language: de"], |request| {
            let query = request.uri().query().expect("url=").as_bytes();
            let url = url::form_urlencoded::parse(query)
                .next()
                .expect("one parameter")
                .1
                .into_owned();
            let language = request.headers()["accept-language"].to_str().expect("text");
            Response::new(body(Full::from(format!("{url} {language}"))))
        })
        .await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(written.as_deref(), Some(&b"http://a.example/?q=1 de"[..]));
    }

    #[tokio::test]
    async fn an_error_status_is_a_failure_but_its_body_is_shown() {
        let (result, written) = get("status", &["-v"], |_| {
            let mut response = Response::new(body(Full::from("no such page")));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        })
        .await;
        let failure = result.expect_err("404");
        assert!(
            failure.exit_code() == 1 && failure.to_string().contains("404"),
            "{failure}"
        );
        assert_eq!(written.as_deref(), Some(&b"no such page"[..]));
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_is_a_failure() {
        let (result, _) = get("cut", &[], |_| {
            let half = async { Ok(Frame::data(Bytes::from("half"))) };
            // One turn later, so that the head is on its way before the connection ends.
            let end = async {
                tokio::task::yield_now().await;
                Err(io::Error::other("gone"))
            };
            let stream = stream::once(half).chain(stream::once(end));
            Response::new(BodyExt::boxed(StreamBody::new(stream)))
        })
        .await;
        assert!(result.expect_err("cut").to_string().contains("incomplete"));
    }

    #[test]
    fn a_field_needs_a_colon_and_a_name() {
        assert!(field("Accept: */*").is_ok());
        assert!(field("Accept").is_err());
        assert!(field("Ac cept: x").is_err());
        assert!(field("Accept: a\nb").is_err());
    }
}
