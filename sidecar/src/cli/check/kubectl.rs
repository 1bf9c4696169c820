//! The way to the cluster: `kubectl`, a process for each question.
//!
//! It knows the user's kubeconfig, contexts, exec plugins (as EKS's) and proxies, which a client of our own
//! would have to learn one by one. It is asked for paths of the API (`get --raw`) rather than for kinds: what
//! comes is what the API server said, and costs no discovery.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

/// From its start to its end.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of one answer.
const MAX_ANSWER: u64 = 256 << 20;
/// Bytes of a complaint.
const MAX_COMPLAINT: u64 = 64 << 10;
/// Objects of one page of a list.
const PAGE: usize = 500;
/// Pages of a list: fifty thousand objects.
const MAX_PAGES: usize = 100;

/// How to start it.
#[derive(Clone, Debug)]
pub(super) struct Kubectl {
    program: PathBuf,
    flags: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no such object, or no such kind.
    NotFound,
    /// What kubectl said.
    Said(String),
}

impl Trouble {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::NotFound => "there is none",
            Self::Said(text) => text,
        }
    }
}

impl Kubectl {
    pub(super) fn new(program: PathBuf, context: Option<&str>, file: Option<&str>) -> Self {
        let mut flags = vec!["--request-timeout=20s".to_owned()];
        flags.extend(context.map(|context| format!("--context={context}")));
        flags.extend(file.map(|file| format!("--kubeconfig={file}")));
        Self { program, flags }
    }

    /// An object.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        parsed(&self.run(&["get", "--raw", path], None).await?)
    }

    /// All objects of a list; each knows its kind, which those of lists do not by themselves.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<Value>, Trouble> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let (mut items, mut token) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let page = format!("{path}{mark}limit={PAGE}{token}");
            let mut list = self.get(&page).await?;
            let kind = list["kind"].as_str().unwrap_or_default();
            let kind = kind.strip_suffix("List").unwrap_or(kind).to_owned();
            if let Some(found) = list["items"].as_array_mut() {
                for item in found {
                    let mut item = item.take();
                    item["kind"] = kind.as_str().into();
                    if let Some(metadata) = item["metadata"].as_object_mut() {
                        metadata.remove("managedFields");
                    }
                    items.push(item);
                }
            }
            match list["metadata"]["continue"].as_str() {
                Some(more) if !more.is_empty() => token = format!("&continue={more}"),
                _ => return Ok(items),
            }
        }
        Err(Trouble::Said(format!(
            "there are more than {} of them",
            PAGE * MAX_PAGES
        )))
    }

    /// What the API server makes of an object that is posted.
    pub(super) async fn post(&self, path: &str, object: &Value) -> Result<Value, Trouble> {
        let arguments = ["create", "--raw", path, "-f", "-"];
        parsed(&self.run(&arguments, Some(object.to_string())).await?)
    }

    /// Whether a Secret is there. What is in it stays with kubectl.
    pub(super) async fn has_secret(&self, namespace: &str, name: &str) -> Result<bool, Trouble> {
        let arguments = ["get", "secret", name, "-n", namespace, "-o", "name"];
        match self.run(&arguments, None).await {
            Ok(_) => Ok(true),
            Err(Trouble::NotFound) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// The one field of a Secret that is none: the certificate that is served, in PEM; empty if there is none.
    pub(super) async fn certificate(
        &self,
        namespace: &str,
        secret: &str,
    ) -> Result<String, Trouble> {
        let field = r#"-o=go-template={{if .data}}{{with index .data "tls.crt"}}{{. | base64decode}}{{end}}{{end}}"#;
        let arguments = ["get", "secret", secret, "-n", namespace, field];
        let text = self.run(&arguments, None).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// What a command in a container writes.
    pub(super) async fn exec(
        &self,
        [namespace, pod, container]: [&str; 3],
        command: &[&str],
    ) -> Result<Value, Trouble> {
        let mut arguments = vec!["exec", "-n", namespace, pod, "-c", container, "--"];
        arguments.extend(command);
        parsed(&self.run(&arguments, None).await?)
    }

    async fn run(&self, arguments: &[&str], stdin: Option<String>) -> Result<Vec<u8>, Trouble> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.flags)
            .args(arguments)
            .stdin(if stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Trouble::Said(format!(
                "{} cannot be started: {error}; --kubectl names another",
                self.program.display()
            ))
        })?;
        let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let told = async {
            if let (Some(mut input), Some(text)) = (input, stdin) {
                // One that does not read has ended, and says why.
                let _ = input.write_all(text.as_bytes()).await;
            }
        };
        let all = async {
            let read = (read(out, MAX_ANSWER), read(err, MAX_COMPLAINT));
            let (out, err, ()) = tokio::join!(read.0, read.1, told);
            (out, err, child.wait().await)
        };
        let ended = tokio::time::timeout(TIMEOUT, all).await;
        let (out, err, status) =
            ended.map_err(|_| Trouble::Said(format!("no answer within {TIMEOUT:?}")))?;
        if out.len() as u64 > MAX_ANSWER {
            return Err(Trouble::Said(format!("more than {MAX_ANSWER} bytes")));
        }
        match status {
            Ok(status) if status.success() => Ok(out),
            Ok(_) => Err(complaint(&String::from_utf8_lossy(&err))),
            Err(error) => Err(Trouble::Said(error.to_string())),
        }
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // Cut off: then the exit code says more than we could.
        let _ = stream.take(most + 1).read_to_end(&mut bytes).await;
    }
    bytes
}

fn parsed(bytes: &[u8]) -> Result<Value, Trouble> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(bytes);
        let begin: String = text.trim().chars().take(80).collect();
        Trouble::Said(format!("{begin:?} is no JSON: {error}"))
    })
}

/// kubectl's last line is its reason; those before are of its plugins and of warnings. Of a command in a pod the
/// line before says more.
fn complaint(text: &str) -> Trouble {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = lines.next_back().unwrap_or("kubectl said nothing");
    if line.starts_with("command terminated with") {
        line = lines.next_back().unwrap_or(line);
    }
    if line.contains("(NotFound)") || line.contains("could not find the requested resource") {
        return Trouble::NotFound;
    }
    let line = line.strip_prefix("error: ").unwrap_or(line);
    Trouble::Said(line.chars().take(500).collect())
}

/// A question whether somebody may do something (SubjectAccessReview; without a user: whoever asks).
pub(super) fn access_review(
    user: Option<&str>,
    [verb, group, resource, namespace, name]: [&str; 5],
) -> (String, Value) {
    let (kind, path) = match user {
        Some(_) => ("SubjectAccessReview", "subjectaccessreviews"),
        None => ("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    };
    let mut spec = json!({"resourceAttributes": {
        "verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name,
    }});
    if let Some(user) = user {
        spec["user"] = user.into();
        let namespace = user.split(':').nth(2).unwrap_or_default();
        spec["groups"] = json!([
            "system:authenticated",
            "system:serviceaccounts",
            format!("system:serviceaccounts:{namespace}"),
        ]);
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    (format!("/apis/authorization.k8s.io/v1/{path}"), review)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_complains_of_is_its_last_line() {
        for (text, trouble) in [
            (
                "Error from server (NotFound): secrets \"a\" not found\n",
                Trouble::NotFound,
            ),
            (
                "Error from server (NotFound): the server could not find the requested resource",
                Trouble::NotFound,
            ),
            (
                "E1123 memcache.go:265] couldn't get\nerror: You must be logged in to the server\n\n",
                Trouble::Said("You must be logged in to the server".into()),
            ),
            (
                "koorde: no node answers\ncommand terminated with exit code 1\n",
                Trouble::Said("koorde: no node answers".into()),
            ),
            ("", Trouble::Said("kubectl said nothing".into())),
        ] {
            assert_eq!(complaint(text), trouble, "{text}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let kubectl = Kubectl::new("/nowhere/kubectl".into(), None, None);
        let trouble = kubectl.get("/version").await.expect_err("it is not there");
        let text = trouble.text();
        assert!(
            text.contains("/nowhere/kubectl") && text.contains("--kubectl"),
            "{text}"
        );
    }
}
