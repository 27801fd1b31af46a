//! `docs/reference/environment.md`: every environment variable, from the `env_vars` modules of the crates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use syn::{Attribute, Expr, Item, ItemConst, Lit, Meta};
use walkdir::WalkDir;

use crate::dist::Scope;
use crate::workspace::Workspace;

/// One constant of an `env_vars` module.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    /// The variable's name, the constant's value.
    name: String,
    /// The doc comment, in Markdown.
    meaning: String,
    /// The crate's folder name.
    owner: String,
}

/// The page.
pub(super) fn page(workspace: &Workspace, _: Scope) -> Result<String> {
    let crates = workspace.path("crates");
    let mut variables = Vec::new();
    for entry in WalkDir::new(&crates).sort_by_file_name() {
        let entry = entry.context("cannot list `crates`")?;
        let path = entry.path();
        let inside = path.strip_prefix(&crates).unwrap_or(path);
        let mut folders = inside.components().map(|part| part.as_os_str().to_string_lossy());
        let (Some(owner), Some(src)) = (folders.next(), folders.next()) else { continue };
        if src != "src" || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let found = read(&text, is_module_file(inside), &owner);
        variables.extend(found.with_context(|| format!("in `{}`", workspace.show(path)))?);
    }
    Ok(render(&variables))
}

/// `env_vars.rs`, or a file under `env_vars/`.
fn is_module_file(path: &Path) -> bool {
    path.with_extension("").components().any(|part| part.as_os_str() == "env_vars")
}

/// The variables that a source file declares: all its string constants when it is an `env_vars` module itself, else
/// those of modules of that name inside it.
fn read(text: &str, is_module: bool, owner: &str) -> Result<Vec<Variable>> {
    // Most files have neither, and need no parsing.
    if !is_module && !text.contains("mod env_vars") {
        return Ok(Vec::new());
    }
    let file = syn::parse_file(text).context("not Rust")?;
    let mut variables = Vec::new();
    collect(&file.items, is_module, owner, &mut variables)?;
    Ok(variables)
}

fn collect(items: &[Item], inside: bool, owner: &str, variables: &mut Vec<Variable>) -> Result<()> {
    for item in items {
        match item {
            Item::Const(constant) if inside => {
                let Some(name) = string(&constant.expr) else { continue };
                let Some(meaning) = documentation(constant) else {
                    bail!("the variable `{name}` has no doc comment");
                };
                variables.push(Variable { name, meaning, owner: owner.to_owned() });
            }
            Item::Mod(module) => {
                let inside = inside || module.ident == "env_vars";
                if let Some((_, items)) = &module.content {
                    collect(items, inside, owner, variables)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn string(value: &Expr) -> Option<String> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn documentation(constant: &ItemConst) -> Option<String> {
    let lines: Vec<String> = constant.attrs.iter().filter_map(doc_line).collect();
    let text = lines.join("\n").trim().to_owned();
    (!text.is_empty()).then(|| without_code_links(&text))
}

/// One line of a doc comment, without the space that follows the slashes.
fn doc_line(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    if !pair.path.is_ident("doc") {
        return None;
    }
    let line = string(&pair.value)?;
    Some(line.strip_prefix(' ').unwrap_or(&line).to_owned())
}

/// Turns rustdoc's links to items, which lead nowhere from this page, into plain code: ``[`Item`](path)`` into `Item`.
fn without_code_links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("[`") {
        let Some(end) = rest[start..].find("`]").map(|at| start + at) else { break };
        let after = &rest[end + 2..];
        let target =
            [('(', ')'), ('[', ']')].iter().find_map(|(open, close)| after.strip_prefix(*open)?.split_once(*close));
        if target.is_some_and(|(target, _)| target.contains("://")) {
            plain.push_str(&rest[..end + 2]);
            rest = after;
            continue;
        }
        plain.push_str(&rest[..start]);
        plain.push_str(&rest[start + 1..=end]);
        rest = target.map_or(after, |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

fn render(variables: &[Variable]) -> String {
    let mut by_name: BTreeMap<&str, Vec<&Variable>> = BTreeMap::new();
    for variable in variables {
        by_name.entry(&variable.name).or_default().push(variable);
    }
    let mut page = super::header("Environment variables", "the `env_vars` modules of the crates");
    page.push_str("| Variable | Crate | Meaning |\n|---|---|---|\n");
    // Writing to a `String` cannot fail.
    for (name, homes) in &by_name {
        let owners: Vec<&str> = homes.iter().map(|home| home.owner.as_str()).collect();
        let summary = homes.first().map(|home| first_sentence(&home.meaning)).unwrap_or_default();
        let _ = writeln!(page, "| [`{name}`](#{}) | {} | {summary} |", anchor(name), owners.join(", "));
    }
    for (name, homes) in &by_name {
        let _ = write!(page, "\n## `{name}`\n");
        let alike = homes.iter().all(|home| home.meaning == homes[0].meaning);
        for home in if alike { &homes[..1] } else { &homes[..] } {
            page.push('\n');
            if !alike {
                let _ = write!(page, "In `{}`: ", home.owner);
            }
            let _ = writeln!(page, "{}", home.meaning);
        }
    }
    page
}

/// The heading's address as Markdown renderers make it.
fn anchor(name: &str) -> String {
    name.to_lowercase().chars().filter(|c| c.is_alphanumeric() || *c == '_' || *c == '-').collect()
}

/// For a cell of a table: up to the first full stop that ends a sentence, on one line.
fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |at| at + 1);
    paragraph[..end].trim_end_matches('.').replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
        //! The variables.
        /// Where the workspace is. Default: `/workspace`.
        ///
        /// See [`Root::join`](crate::Root) and [`plan`].
        pub const WORKSPACE: &str = "WORKSPACE";
        /// Not a variable.
        pub const LIMIT: u32 = 3;
        /// Skip services; `true` or not.
        pub const SERVERLESS: &str = "SERVERLESS";
    "#;

    #[test]
    fn string_constants_of_a_module_file_are_variables_with_their_comments() {
        let found = read(SOURCE, true, "boot").unwrap();
        let names: Vec<_> = found.iter().map(|variable| variable.name.as_str()).collect();
        assert_eq!(names, ["WORKSPACE", "SERVERLESS"]);
        assert_eq!(found[0].meaning, "Where the workspace is. Default: `/workspace`.\n\nSee `Root::join` and `plan`.");
    }

    #[test]
    fn elsewhere_only_a_module_of_that_name_counts() {
        assert_eq!(read(SOURCE, false, "boot").unwrap(), []);
        let nested = format!("const OTHER: &str = \"OTHER\"; pub mod env_vars {{ {} }}", SOURCE.replace("//!", "//"));
        assert_eq!(read(&nested, false, "boot").unwrap().len(), 2);
    }

    #[test]
    fn a_variable_without_a_comment_is_refused() {
        let error = read("pub const HOME: &str = \"HOME\";", true, "boot").unwrap_err();
        assert_eq!(error.to_string(), "the variable `HOME` has no doc comment");
    }

    #[test]
    fn module_files_are_known_by_their_path() {
        assert!(is_module_file(Path::new("boot/src/env_vars.rs")));
        assert!(is_module_file(Path::new("boot/src/env_vars/mod.rs")));
        assert!(!is_module_file(Path::new("boot/src/env.rs")));
    }

    #[test]
    fn links_to_items_become_code_and_links_to_pages_stay() {
        assert_eq!(without_code_links("see [`A`](b::C), [`D`][e] and [`F`]."), "see `A`, `D` and `F`.");
        let page = "as [`rsync`](https://example.org/a) does; [x](y)";
        assert_eq!(without_code_links(page), page);
        assert_eq!(without_code_links("[`open"), "[`open");
    }

    #[test]
    fn a_variable_of_several_crates_is_one_entry() {
        let variable = |owner: &str, meaning: &str| Variable {
            name: "HOME".to_owned(),
            meaning: meaning.to_owned(),
            owner: owner.to_owned(),
        };
        let alike =
            render(&[variable("boot", "The home | folder. More."), variable("sync", "The home | folder. More.")]);
        assert!(alike.contains("| [`HOME`](#home) | boot, sync | The home \\| folder |\n"), "{alike}");
        assert!(alike.ends_with("\n## `HOME`\n\nThe home | folder. More.\n"), "{alike}");
        let unlike = render(&[variable("boot", "One."), variable("sync", "Two.")]);
        assert!(unlike.ends_with("\n## `HOME`\n\nIn `boot`: One.\n\nIn `sync`: Two.\n"), "{unlike}");
    }
}
