//! `koorde purge`: makes what is stored unusable on every node, and shows the receipt.

use clap::{ArgGroup, Args};
use http::{HeaderValue, Method, Request, header};
use http_body_util::Empty;
use libkoorde::Receipt;
use url::form_urlencoded::byte_serialize;

use super::{Endpoint, Failure, client, client::Client, output};
use crate::admin::Token;

/// Purge a URL, a tag, a prefix, a host or everything on every node
///
/// What is purged counts as stale: the origin is asked about it before it is used again. The answer
/// is a receipt: which members have acknowledged. One that could not be reached learns of the purge
/// before it serves again, so exit code 0 means that nothing purged comes from anybody who can be
/// reached.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["url", "tag", "group", "prefix", "host", "all"]))]
pub struct PurgeArgs {
    /// A URL with all its variants
    #[arg(long, value_name = "URL", value_parser = client::target)]
    url: Option<String>,
    /// Responses with this name in Surrogate-Key or Cache-Tag; of one host with --of
    #[arg(long)]
    tag: Option<String>,
    /// Responses with this name in Cache-Groups (RFC 9875); needs --of
    #[arg(long, requires = "of")]
    group: Option<String>,
    /// The host of the tag, or a URL of the group's origin
    #[arg(long, value_name = "HOST|URL", conflicts_with_all = ["url", "prefix", "host", "all"])]
    of: Option<String>,
    /// URLs that begin so
    #[arg(long, value_name = "URL", value_parser = client::target)]
    prefix: Option<String>,
    /// Everything of a host; with a port, of that port only
    #[arg(long)]
    host: Option<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// Count it as not stored, rather than as stale
    #[arg(long)]
    hard: bool,
    /// Only what is stored for this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// The admin listener of any node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: Endpoint,
    /// File with the token that the nodes ask for (admin.token_file)
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Write the receipt as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde purge --url http://127.0.0.1:9000/page
  koorde purge --tag product-42 --hard
  koorde purge --tag header --of shop.example
  koorde purge --prefix https://shop.example/img/ --json | jq '.unreachable[]'
  koorde purge --all --admin http://127.0.0.1:9091";

/// Asks for the purge and shows its receipt.
///
/// # Errors
/// No answer, or a refusal.
pub async fn run(args: PurgeArgs) -> Result<(), Failure> {
    let uri = args.admin.at(&path(&args))?;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    if let Some(path) = &args.token_file {
        let token = Token::read(path).map_err(|error| Failure::Work(error.to_string()))?;
        let value = HeaderValue::from_bytes(&token.field());
        let mut value = value.map_err(|error| Failure::Work(error.to_string()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let answer = Client::for_reports()?.ask(&args.admin, request).await?;
    if args.json {
        return output::json(&answer);
    }
    let receipt: Receipt = serde_json::from_value(answer).map_err(|error| {
        Failure::Work(format!("{}/purge is not understood: {error}", args.admin))
    })?;
    output::line(lines(&receipt).join("\n"))
}

/// The path and query that the admin listener takes.
fn path(args: &PurgeArgs) -> String {
    let origin = args.of.as_ref().filter(|_| args.group.is_some());
    let host = args.of.as_ref().filter(|_| args.tag.is_some());
    let truth = "true".to_owned();
    let pairs = [
        ("url", args.url.as_ref()),
        ("tag", args.tag.as_ref()),
        ("group", args.group.as_ref()),
        ("origin", origin),
        ("prefix", args.prefix.as_ref()),
        ("host", args.host.as_ref().or(host)),
        ("all", args.all.then_some(&truth)),
        ("hard", args.hard.then_some(&truth)),
        ("tenant", args.tenant.as_ref()),
    ];
    let pairs = pairs.into_iter().filter_map(|(name, value)| {
        // A plus would be read as a plus.
        let value: String = byte_serialize(value?.as_bytes()).collect();
        Some(format!("{name}={}", value.replace('+', "%20")))
    });
    format!("/purge?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn lines(receipt: &Receipt) -> Vec<String> {
    let (kind, generation) = (receipt.kind.as_str(), receipt.generation);
    let mut lines = vec![
        format!("purged       {} ({kind})", receipt.scope),
        format!("generation   {generation}"),
    ];
    let others = output::counted(receipt.asked.len() as u64, "other member");
    let acknowledged = receipt.acknowledged.len();
    lines.push(format!("acknowledged {acknowledged} of {others}"));
    if !receipt.is_complete() {
        let names = receipt.unreachable.join(" ");
        lines.push(format!(
            "unreachable  {names}: will learn of it before serving again"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(words: &[&str]) -> Result<PurgeArgs, String> {
        let words = ["koorde", "purge"].iter().chain(words);
        match Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Purge(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_named_is_what_is_asked_for() {
        for (words, query) in [
            (
                &["--url", "http://a/x?y=1&z"][..],
                "url=http%3A%2F%2Fa%2Fx%3Fy%3D1%26z",
            ),
            (&["--tag", "a b", "--hard"], "tag=a%20b&hard=true"),
            (&["--tag", "a", "--of", "h"], "tag=a&host=h"),
            (
                &["--group", "g", "--of", "http://h"],
                "group=g&origin=http%3A%2F%2Fh",
            ),
            (&["--host", "h", "--tenant", "t"], "host=h&tenant=t"),
            (&["--all"], "all=true"),
        ] {
            let args = args(words).expect("understood");
            assert_eq!(path(&args), format!("/purge?{query}"));
        }
    }

    #[test]
    fn nothing_named_or_two_things_are_not_understood() {
        for words in [
            &[][..],
            &["--hard"],
            &["--all", "--tag", "a"],
            &["--group", "g"],
            &["--all", "--of", "h"],
        ] {
            assert!(args(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_receipt_names_the_unreachable() {
        let mut receipt = Receipt {
            generation: 7,
            scope: "tag a".to_owned(),
            asked: vec!["b".to_owned(), "c".to_owned()],
            acknowledged: vec!["b".to_owned()],
            unreachable: vec!["c".to_owned()],
            ..Receipt::default()
        };
        let text = lines(&receipt).join("\n");
        assert!(text.contains("acknowledged 1 of 2 other members"), "{text}");
        assert!(text.contains("unreachable  c"), "{text}");
        receipt.unreachable.clear();
        assert!(!lines(&receipt).join("\n").contains("unreachable"));
    }
}
