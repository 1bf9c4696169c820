//! `koorde inject` and `koorde uninject`: objects in, the same objects with or without sidecars out.

use std::{
    cell::Cell,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use json_patch::PatchOperation;
use serde_json::Value;

use super::{
    Failure,
    manifest::{Document, Form, Stream},
    output,
};
use crate::inject::{InjectSettings, Injected, inject, is_injected, templates, uninject};

/// Bytes of one file, at most.
const MAX_FILE: u64 = 256 << 20;

/// Add the sidecar to every pod and pod template of Kubernetes objects.
///
/// Objects of any kind are taken by their shape; those without pods, and fields that koorde does not
/// know, come out as they went in. What was injected before is made anew with these settings.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = INJECT_EXAMPLES)]
pub struct InjectArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: ManifestArgs,
    /// What sidecars are made from: a file of YAML or JSON
    #[arg(long, short, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// One setting, such as resources.memory_limit=512Mi; more than once
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Add image pull secrets also to pods that name none, whose service account's no longer count then
    #[arg(long)]
    pub force_pull_secrets: bool,
    /// Print the settings as they are after all of it, and do nothing else
    #[arg(long)]
    pub show_settings: bool,
}

/// Take out of Kubernetes objects what `koorde inject` and the injector added, and nothing else.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct UninjectArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: ManifestArgs,
}

/// What both take.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ManifestArgs {
    /// Files, folders (their .yaml, .yml and .json files, and those of folders inside), or - for stdin
    #[arg(value_name = "FILE|DIR|-", default_value = "-")]
    pub files: Vec<PathBuf>,
    /// What to write [default: each file's own form]
    #[arg(long, short, value_enum, value_name = "FORM")]
    pub output: Option<Output>,
    /// Only report what would be done, on stderr
    #[arg(long)]
    pub dry_run: bool,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// YAML
    Yaml,
    /// JSON
    Json,
}

const INJECT_EXAMPLES: &str = "\
Examples:
  kubectl get deploy -o yaml | koorde inject - | kubectl apply -f -
  koorde inject --set seeds=[koorde-headless.web.svc.cluster.local:4000] app.yaml
  koorde inject --dry-run manifests/

Exit codes: 0 done, 1 a pod was refused or a file could not be read, and nothing was written,
2 the command was not understood.";

/// Runs `koorde inject`.
///
/// # Errors
/// [`Failure::Usage`] for settings that are wrong; [`Failure::Work`] for files that cannot be read and pods
/// that ask for what does not exist.
pub async fn run(args: InjectArgs) -> Result<(), Failure> {
    let settings =
        InjectSettings::load(args.settings.as_deref(), &args.set).map_err(Failure::Usage)?;
    if args.show_settings {
        return output::json(&settings);
    }
    if settings.seeds.is_empty() {
        output::remark(
            "no seeds are set (--set seeds=[host:port]): each pod will cache for itself",
        );
    }
    // A pod that names any does not get those of its service account: the app's image might be behind them.
    // The webhook comes after that.
    let mut careful = settings.clone();
    if !args.force_pull_secrets {
        careful.image_pull_secrets.clear();
    }
    let left_out = Cell::new(0);
    each(&args.common, |pod| {
        let mut patch = uninject(pod);
        let mut bare = pod.clone();
        json_patch::patch(&mut bare, &patch).map_err(|error| error.to_string())?;
        let names = bare["spec"]["imagePullSecrets"].as_array();
        let names_some = names.is_some_and(|names| !names.is_empty());
        let used = if names_some { &settings } else { &careful };
        match inject(&bare, used) {
            Injected::Patch(more) => {
                patch.extend(more);
                if used.image_pull_secrets != settings.image_pull_secrets {
                    left_out.set(left_out.get() + 1);
                }
                Ok(Change::Patch(patch, "injected".into()))
            }
            Injected::Skip(skip) if skip.is_surprise() => {
                Ok(Change::None(format!("skipped: {skip}")))
            }
            // A sidecar that is no longer wanted goes.
            Injected::Skip(skip) => Ok(Change::Patch(patch, format!("skipped: {skip}"))),
            Injected::Refuse(message) => Err(message),
        }
    })?;
    if left_out.get() > 0 {
        let pods = output::counted(left_out.get(), "pod");
        output::remark(format!(
            "image pull secrets were not added to {pods} without any: their service accounts' would no longer count \
             (--force-pull-secrets)"
        ));
    }
    Ok(())
}

/// Runs `koorde uninject`.
///
/// # Errors
/// [`Failure::Work`] for files that cannot be read.
pub async fn run_uninject(args: UninjectArgs) -> Result<(), Failure> {
    each(&args.common, |pod| {
        if is_injected(pod) {
            Ok(Change::Patch(uninject(pod), "uninjected".into()))
        } else {
            Ok(Change::None("skipped: it has no sidecar of ours".into()))
        }
    })
}

/// What to do with one pod, and what to say about it.
enum Change {
    Patch(Vec<PatchOperation>, String),
    None(String),
}

/// Reads everything, changes every pod, and only then writes: half of a cluster's objects in front of
/// `kubectl apply` would be worse than none.
fn each(
    args: &ManifestArgs,
    decide: impl Fn(&Value) -> Result<Change, String>,
) -> Result<(), Failure> {
    let mut streams = Vec::new();
    for file in files(&args.files)? {
        let text = read(&file)?;
        let stream = Stream::read(&text);
        streams
            .push(stream.map_err(|error| Failure::Work(format!("{}: {error}", file.display())))?);
    }
    let (mut refused, mut pods) = (0, 0);
    for document in streams.iter_mut().flat_map(|stream| &mut stream.documents) {
        for path in templates(&document.value) {
            pods += 1;
            let (name, pod) = pod(document, &path);
            let said = match decide(&pod) {
                Ok(Change::Patch(patch, said)) => {
                    document.patch(&path, &patch).map_err(Failure::Work)?;
                    said
                }
                Ok(Change::None(said)) => said,
                Err(message) => {
                    refused += 1;
                    format!("refused: {message}")
                }
            };
            output::remark(format!("{name}: {said}"));
        }
    }
    if pods == 0 {
        output::remark("there is no pod and no pod template in it");
    }
    if refused > 0 {
        let pods = output::counted(refused, "pod");
        return Err(Failure::Work(format!(
            "{pods} refused; nothing was written"
        )));
    }
    if args.dry_run {
        Ok(())
    } else {
        write(&streams, args.output)
    }
}

/// What to call a pod, and the pod.
fn pod(document: &Document, path: &[String]) -> (String, Value) {
    let at = |path: &[String]| {
        path.iter()
            .try_fold(&document.value, |value, name| match value {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                other => other.get(name),
            })
    };
    let is_item = path.first().is_some_and(|first| first == "items");
    let object = at(if is_item { &path[..2] } else { &[] }).unwrap_or(&Value::Null);
    let kind = object["kind"].as_str().unwrap_or("object").to_lowercase();
    let metadata = &object["metadata"];
    let name = metadata["name"]
        .as_str()
        .or(metadata["generateName"].as_str());
    let name = format!("{kind}/{}", name.unwrap_or("(no name)"));
    (name, at(path).cloned().unwrap_or_default())
}

fn write(streams: &[Stream], output: Option<Output>) -> Result<(), Failure> {
    let mut text = String::new();
    for stream in streams {
        let form = match output {
            None => stream.form,
            Some(Output::Yaml) => Form::Yaml,
            Some(Output::Json) => Form::Json,
        };
        for document in &stream.documents {
            if document.is_empty() && form == Form::Json {
                continue;
            }
            let one = document.text(form);
            if form == Form::Yaml && !text.is_empty() && !one.starts_with("---") {
                text.push_str("---\n");
            }
            text.push_str(&one);
        }
    }
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| Failure::write("stdout", &error))
}

/// The files that are meant: those of folders in order of their names.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if path.as_os_str() != "-" && path.is_dir() {
            folder(path, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn folder(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let wrong = |error: io::Error| Failure::Work(format!("{}: {error}", path.display()));
    let entries = fs::read_dir(path).map_err(wrong)?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    entries.sort();
    for entry in entries {
        let is_link = entry.is_symlink();
        let extension = entry.extension().and_then(|extension| extension.to_str());
        // A link to a folder above would never end.
        if entry.is_dir() && !is_link {
            folder(&entry, files)?;
        } else if entry.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(entry);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin()
            .lock()
            .take(MAX_FILE + 1)
            .read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
    };
    match read {
        Ok(bytes) if bytes as u64 > MAX_FILE => Err(Failure::Work(format!(
            "{}: has more than {MAX_FILE} bytes",
            path.display()
        ))),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Work(format!("{}: {error}", path.display()))),
    }
}
