//! What Supervisor says of its programs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use rustix::process::Pid;

use super::rpc;

/// A program, as `getAllProcessInfo` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name: the program's, or `group:name` where the two differ.
    pub name: String,
    /// `RUNNING`, `FATAL`, … <http://supervisord.org/subprocess.html#process-states>
    pub state: String,
    /// Supervisor's own words, such as `pid 42, uptime 0:01:00`, or why it could not be started.
    pub description: String,
    /// The status that it last ended with; 0 while it runs.
    pub exit_status: i64,
    /// For how long it has been in this state, in seconds, while it runs.
    pub uptime_s: i64,
    /// The file that its output goes to, if that is one.
    pub log: Option<PathBuf>,
}

/// Every program, in Supervisor's order.
///
/// # Errors
/// When Supervisor cannot be reached or its answer understood.
pub fn ask(socket: &Path, limit: Duration) -> io::Result<Vec<State>> {
    let answer = rpc::call(socket, "supervisor.getAllProcessInfo", "", limit)?;
    let structs = structs(&answer).map_err(io::Error::other)?;
    Ok(structs.iter().filter_map(state).collect())
}

/// The process id of Supervisor.
///
/// # Errors
/// As [`ask`].
pub fn pid(socket: &Path, limit: Duration) -> io::Result<Option<Pid>> {
    let answer = rpc::call(socket, "supervisor.getPID", "", limit)?;
    let digits = answer.split_once("<int>").and_then(|(_, rest)| rest.split_once("</int>")).map(|(digits, _)| digits);
    Ok(digits.and_then(|digits| Pid::from_raw(digits.trim().parse().ok()?)))
}

fn state(members: &BTreeMap<String, String>) -> Option<State> {
    let text = |name: &str| members.get(name).map_or("", String::as_str);
    let number = |name: &str| text(name).parse::<i64>().unwrap_or_default();
    let (name, group, error) = (text("name"), text("group"), text("spawnerr"));
    if name.is_empty() {
        return None;
    }
    let logs = [text("stdout_logfile"), text("stderr_logfile")].into_iter().map(PathBuf::from);
    Some(State {
        name: if group.is_empty() || group == name { name.to_owned() } else { format!("{group}:{name}") },
        state: text("statename").to_owned(),
        description: if error.is_empty() { text("description") } else { error }.to_owned(),
        exit_status: number("exitstatus"),
        uptime_s: (number("now") - number("start")).max(0),
        log: logs.into_iter().find(|log| log.is_absolute() && !log.starts_with("/dev")),
    })
}

/// The structs of an answer, whose members are all plain.
fn structs(xml: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
    let mut reader = Reader::from_str(xml);
    let (mut found, mut members, mut name, mut text) = (Vec::new(), BTreeMap::new(), String::new(), String::new());
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(tag) => {
                text.clear();
                match tag.name().as_ref() {
                    "fault" => return Err("it answers with a fault".to_owned()),
                    "struct" => members = BTreeMap::new(),
                    _ => {}
                }
            }
            Event::Text(more) => text.push_str(&more.xml10_content()),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| error.to_string())?.map(String::from);
                text.push_str(
                    &character
                        .or_else(|| resolve_predefined_entity(reference.as_ref()).map(str::to_owned))
                        .unwrap_or_default(),
                );
            }
            Event::End(tag) => match tag.name().as_ref() {
                "name" => name = std::mem::take(&mut text),
                "value" => {
                    members.insert(std::mem::take(&mut name), std::mem::take(&mut text));
                }
                "struct" => found.push(std::mem::take(&mut members)),
                _ => {}
            },
            Event::Eof if xml.contains("</methodResponse>") => return Ok(found),
            Event::Eof => return Err("the answer is cut off".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n<value><struct>\n\
        <member>\n<name>name</name>\n<value><string>app</string></value>\n</member>\n\
        <member>\n<name>group</name>\n<value><string>a&amp;b</string></value>\n</member>\n\
        <member>\n<name>start</name>\n<value><int>100</int></value>\n</member>\n\
        <member>\n<name>now</name>\n<value><int>104</int></value>\n</member>\n\
        <member>\n<name>statename</name>\n<value><string>BACKOFF</string></value>\n</member>\n\
        <member>\n<name>spawnerr</name>\n<value><string>can't find command</string></value>\n</member>\n\
        <member>\n<name>stdout_logfile</name>\n<value><string>/dev/stdout</string></value>\n</member>\n\
        <member>\n<name>stderr_logfile</name>\n<value><string></string></value>\n</member>\n\
        </struct></value>\n</data></array></value>\n</param>\n</params>\n</methodResponse>\n";

    #[test]
    fn an_answer_as_supervisor_writes_it_is_read() {
        let found: Vec<State> = structs(ANSWER).unwrap().iter().filter_map(state).collect();
        let expected = State {
            name: "a&b:app".to_owned(),
            state: "BACKOFF".to_owned(),
            description: "can't find command".to_owned(),
            exit_status: 0,
            uptime_s: 4,
            log: None,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_fault_and_an_answer_that_is_cut_are_errors() {
        for xml in ["", "<methodResponse><fault>", &ANSWER[..ANSWER.len() / 2], "<a"] {
            assert!(structs(xml).is_err(), "{xml}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_panics(text in "(<(/?(struct|name|value|member)|[a-z]{1,3})>|[ -~é&;]){0,20}") {
            let _ = structs(&text);
        }
    }
}
