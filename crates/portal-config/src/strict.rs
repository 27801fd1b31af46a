//! The strict reading: every problem of every entry at once.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::cut::{self, Piece, Separator};
use crate::model::{Entry, PortalConfig};
use crate::problem::{Field, Problem, ProblemKind, StrictErrors};
use crate::resolve::{self, PortMap};

/// Reads a value, or tells everything that is wrong with it.
pub(crate) fn parse(value: &str, ports: &PortMap) -> Result<PortalConfig, StrictErrors> {
    let pieces = cut::pieces(value);
    let mut problems = Vec::new();
    let mut placed = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if let Separator::LineBreak(span) = &piece.before {
            problems.push(Problem { entry: piece.number - 1, span: span.clone(), kind: ProblemKind::LineBreak });
        }
        if !piece.part.text.is_empty() {
            placed.extend(read_entry(value, piece, &mut problems));
        } else if !next_to_line_break(&pieces, index) {
            problems.push(Problem { entry: piece.number, span: piece.part.span(), kind: ProblemKind::EmptyEntry });
        }
    }
    duplicates(&placed, &mut problems);
    conflicts(&placed, ports, &mut problems);
    if problems.is_empty() {
        Ok(PortalConfig { entries: placed.into_iter().map(|placed| placed.entry).collect() })
    } else {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Err(StrictErrors { value: value.to_owned(), problems })
    }
}

/// An empty piece beside a line break is told by the line break.
fn next_to_line_break(pieces: &[Piece<'_>], index: usize) -> bool {
    pieces[index..].iter().take(2).any(|piece| matches!(piece.before, Separator::LineBreak(_)))
}

/// An entry, and the places that problems between entries point at.
#[derive(Debug)]
struct Placed {
    number: usize,
    entry: Entry,
    label: Range<usize>,
    ports: [Range<usize>; 2],
}

/// Reads one entry; its problems go to `problems`. None where fields are missing.
fn read_entry(value: &str, piece: &Piece<'_>, problems: &mut Vec<Problem>) -> Option<Placed> {
    let mut tell = |span: Range<usize>, kind| problems.push(Problem { entry: piece.number, span, kind });
    let placeholders = cut::placeholders(value, &piece.part.raw);
    for span in &placeholders {
        tell(span.clone(), ProblemKind::Unexpanded(value[span.clone()].to_owned()));
    }
    // A default value may hold a colon: `${PORT:-8080}` is one field, whatever a plain cut would make of it.
    let parts = cut::fields(value, &piece.part.raw, |at| !placeholders.iter().any(|span| span.contains(&at)));
    if parts.len() < Field::ALL.len() {
        let end = piece.part.span().end;
        tell(end..end, ProblemKind::MissingFields(Field::ALL[parts.len()..].to_vec()));
        if parts.len() == 1 {
            // Something else than an entry: that its only word is no host is not worth a second message.
            return None;
        }
    }
    for (part, field) in parts.iter().zip(Field::ALL) {
        if part.has_white_space_around() && !part.text.is_empty() {
            tell(part.raw.clone(), ProblemKind::WhiteSpace(field));
        }
        let unexpanded = placeholders.iter().any(|span| part.raw.contains(&span.start));
        if let (false, Some(kind)) = (unexpanded, check(field, part.text)) {
            tell(part.span(), kind);
        }
    }
    let [host, internal, external, path, label] = &parts[..] else { return None };
    let entry = Entry {
        host: host.text.to_owned(),
        internal_port: cut::port(internal.text).unwrap_or(NO_PORT),
        external_port: cut::port(external.text).unwrap_or(NO_PORT),
        path: path.text.to_owned(),
        label: label.text.to_owned(),
    };
    Some(Placed { number: piece.number, entry, label: label.span(), ports: [internal.span(), external.span()] })
}

/// Stands for a port that could not be read; such an entry is told already and not compared with others.
const NO_PORT: u16 = 0;

/// What is wrong with a field by itself.
fn check(field: Field, text: &str) -> Option<ProblemKind> {
    let wrong = || text.to_owned();
    match field {
        Field::Host if !cut::is_host_name(text) => Some(ProblemKind::BadHost(wrong())),
        Field::Host if !cut::is_local(text) => Some(ProblemKind::HostNotLocal(wrong())),
        Field::InternalPort | Field::ExternalPort if cut::port(text).is_none() => {
            Some(ProblemKind::BadPort(field, wrong()))
        }
        Field::Path if !text.starts_with('/') => Some(ProblemKind::BadPath(wrong())),
        Field::Label if text.is_empty() => Some(ProblemKind::EmptyLabel),
        _ => None,
    }
}

fn duplicates(placed: &[Placed], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for placed in placed.iter().filter(|placed| !placed.entry.label.is_empty()) {
        let label = &placed.entry.label;
        let first = *first.entry(label).or_insert(placed.number);
        if first != placed.number {
            let kind = ProblemKind::DuplicateLabel { label: label.clone(), first };
            problems.push(Problem { entry: placed.number, span: placed.label.clone(), kind });
        }
    }
}

/// Two entries on one external port with different targets. Published or not: once published, only one can be served.
fn conflicts(placed: &[Placed], ports: &PortMap, problems: &mut Vec<Problem>) {
    let mut first = BTreeMap::new();
    for placed in placed {
        let entry = &placed.entry;
        let numbers = [entry.internal_port, entry.external_port];
        let (internal, external) = ports.orient(numbers[0], numbers[1]);
        if internal == external || numbers.contains(&NO_PORT) {
            continue;
        }
        let target = resolve::target(&entry.host, internal);
        let (holder, holder_target) = first.entry(external).or_insert_with(|| (placed.number, target.clone()));
        if *holder_target != target {
            let span = placed.ports[usize::from(external == numbers[1])].clone();
            let kind = ProblemKind::PortConflict { port: external, target: holder_target.clone(), first: *holder };
            problems.push(Problem { entry: placed.number, span, kind });
        }
    }
}
