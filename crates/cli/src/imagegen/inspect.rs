//! `vast-imagegen inspect`.

use std::fmt::Write as _;

use vast_imagegen::Error;
use vast_imagegen::inspect::{ImageReport, Report, inspect};
use vast_imagegen::platform::Platform;
use vast_imagegen::reference::Reference;
use vast_imagegen::transport::open_source;

use super::session;
use super::text::{one_line, size};
use super::transport::TransportArgs;
use crate::report::Exit;

/// Characters of a command that are shown; all of it is in the JSON.
const COMMAND_WIDTH: usize = 100;

/// The command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: `docker://host/repo:tag` (or bare), `oci:DIR[:tag]`, `oci-archive:FILE`, `docker-archive:FILE`.
    image: Reference,
    /// Show this platform's image alone.
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    #[command(flatten)]
    transport: TransportArgs,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// Inspects.
pub(super) fn run(args: &Args) -> Result<Exit, Error> {
    let options = args.transport.options(&session::environment());
    let report = session::block_on(async {
        let source = open_source(&args.image, &options).await?;
        inspect(&*source, args.platform.as_ref()).await
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print!("{}", tree(&report));
    }
    Ok(Exit::Success)
}

/// A node of the printed tree.
struct Node {
    text: String,
    children: Vec<Node>,
}

impl Node {
    fn leaf(text: impl Into<String>) -> Self {
        Self { text: text.into(), children: Vec::new() }
    }

    fn list(text: &str, children: impl IntoIterator<Item = String>) -> Option<Self> {
        let children: Vec<Self> = children.into_iter().map(Self::leaf).collect();
        (!children.is_empty()).then(|| Self { text: text.to_owned(), children })
    }
}

fn tree(report: &Report) -> String {
    let kind = if report.index { format!("index of {}", report.images.len()) } else { "image".to_owned() };
    let mut out = format!("{}\n{}  {kind}\n", report.reference, report.digest);
    let nodes: Vec<Node> = report.images.iter().map(image).collect();
    draw(&mut out, &nodes, "");
    out
}

fn draw(out: &mut String, nodes: &[Node], indent: &str) {
    for (number, node) in nodes.iter().enumerate() {
        let last = number + 1 == nodes.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{indent}{branch}{}", node.text);
        draw(out, &node.children, &format!("{indent}{below}"));
    }
}

fn image(image: &ImageReport) -> Node {
    let text = format!("{}  {}  {}", image.platform, image.digest, size(image.size_bytes));
    let line =
        |name: &str, value: Option<&String>| value.map(|value| Node::leaf(format!("{name} {}", one_line(value, 200))));
    let words = |name: &str, words: &[String]| (!words.is_empty()).then(|| Node::leaf(format!("{name} {words:?}")));
    let shown = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(name, value)| one_line(&format!("{name}={value}"), 200)).collect::<Vec<_>>()
    };
    let layers = image.layers.iter().enumerate().map(|(number, layer)| {
        let command = layer.created_by.as_deref().map(|command| one_line(command, COMMAND_WIDTH)).unwrap_or_default();
        format!("{number:>2}  {}  {:>9}  {command}", short(&layer.digest), size(layer.size_bytes)).trim_end().to_owned()
    });
    let history = image.history.iter().map(|step| {
        let command = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("(no command)");
        let layer = step.layer.map_or_else(|| "   ".to_owned(), |layer| format!("{layer:>2} "));
        format!("{layer} {}", one_line(command, COMMAND_WIDTH))
    });
    let children = [
        line("created", image.created.as_ref()),
        line("user", image.user.as_ref().filter(|user| !user.is_empty())),
        line("working directory", image.working_dir.as_ref().filter(|dir| !dir.is_empty())),
        words("entrypoint", &image.entrypoint),
        words("command", &image.cmd),
        words("ports", &image.ports),
        words("volumes", &image.volumes),
        Node::list("environment", image.env.iter().map(|variable| one_line(variable, 200))),
        Node::list("labels", shown(&image.labels)),
        Node::list("annotations", shown(&image.annotations)),
        Node::list("layers", layers),
        Node::list("history", history),
    ];
    Node { text, children: children.into_iter().flatten().collect() }
}

/// The first digits of a digest, without its algorithm.
fn short(digest: &str) -> String {
    digest.split_once(':').map_or(digest, |(_, hex)| hex).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use vast_imagegen::digest::Digest;
    use vast_imagegen::inspect::{LayerReport, Step};

    use super::*;

    #[test]
    fn the_tree_shows_platforms_layers_and_history() {
        let digest = Digest::of(b"x");
        let report = Report {
            reference: "docker://r.io/app:v1".to_owned(),
            digest,
            media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
            index: true,
            images: vec![ImageReport {
                platform: Platform::host(),
                digest,
                size_bytes: 1_234_567,
                created: None,
                user: Some(String::new()),
                working_dir: Some("/".to_owned()),
                entrypoint: vec!["/init".to_owned()],
                cmd: Vec::new(),
                ports: Vec::new(),
                volumes: Vec::new(),
                env: vec!["A=1".to_owned()],
                labels: [("maintainer".to_owned(), "someone\nelse".to_owned())].into(),
                annotations: std::collections::BTreeMap::new(),
                layers: vec![LayerReport {
                    digest: digest.to_string(),
                    diff_id: None,
                    media_type: "x".to_owned(),
                    size_bytes: 1_234_567,
                    created_by: Some("COPY a /".to_owned()),
                }],
                history: vec![
                    Step { created: None, created_by: Some("COPY a /".to_owned()), comment: None, layer: Some(0) },
                    Step { created: None, created_by: None, comment: None, layer: None },
                ],
            }],
        };
        let expected = format!(
            "docker://r.io/app:v1
{digest}  index of 1
└─ {}  {digest}  1.2 MB
   ├─ working directory /
   ├─ entrypoint [\"/init\"]
   ├─ environment
   │  └─ A=1
   ├─ labels
   │  └─ maintainer=someone else
   ├─ layers
   │  └─  0  2d711642b726     1.2 MB  COPY a /
   └─ history
      ├─  0  COPY a /
      └─     (no command)
",
            Platform::host()
        );
        assert_eq!(tree(&report), expected);
    }
}
