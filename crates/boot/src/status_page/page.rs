//! The page as HTML. It shows everything without its script, which only keeps it fresh.

use std::fmt::Write as _;
use std::time::Duration;

use vast_portal::ICON;
use vast_portal::auth::escape_html;

use super::view::{Copy, Stage, View, elapsed};
use crate::journal::{Outcome, Phase};
use crate::redact::percent_encoded;

/// The page's style sheet.
pub(super) const STYLE: &str = include_str!("../../assets/booting.css");

/// The page's script.
pub(super) const SCRIPT: &str = include_str!("../../assets/booting.js");

/// What the built-in stages do, in words for people who did not write them.
const TITLES: [(&str, &str); 17] = [
    ("05-configure-cuda.sh", "Set up CUDA"),
    ("10-prep-env.sh", "Prepare the environment"),
    ("11-log-dirs.sh", "Prepare the logs"),
    ("12-cpu-thread-limits.sh", "Limit CPU threads"),
    ("15-hotfix.sh", "Apply the hotfix"),
    ("25-first-boot.sh", "First-boot scripts"),
    ("35-sync-home-dirs.sh", "Move homes to the volume"),
    ("36-sync-workspace.sh", "Fill the workspace"),
    ("37-sync-environment.sh", "Move environments to the volume"),
    ("45-user-write-bashrc.sh", "Set up shells"),
    ("46-user-propagate-ssh-keys.sh", "Pass on SSH keys"),
    ("47-user-git-safe-dirs.sh", "Trust repositories"),
    ("48-venv-backup.sh", "Record environments"),
    ("55-tls-cert-gen.sh", "Get a certificate"),
    ("65-supervisor-launch.sh", "Start Supervisor"),
    ("75-provisioning-script.sh", "Provisioning script"),
    ("95-supervisor-wait.sh", "Open the portal"),
];

/// The whole page.
#[must_use]
pub(super) fn render(view: &View) -> String {
    let mut html = String::with_capacity(16 * 1024);
    let name = escape_html(name(view));
    // Writing to a String cannot fail.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>\n<title>{name} is starting</title>\n\
         <link rel=\"icon\" href=\"data:image/svg+xml,{}\">\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n",
        percent_encoded(ICON.trim())
    );
    head(&mut html, view);
    if let Some(copy) = &view.copy {
        copying(&mut html, copy);
    }
    stages(&mut html, view);
    output(&mut html, &view.output);
    let next = if view.supervisor_failed {
        "This page stays until the container restarts."
    } else {
        "This page turns into the Instance Portal by itself."
    };
    let _ = write!(
        html,
        "<p id=\"link\" class=\"dim\" role=\"status\">{next}</p>\n\
         </main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    html
}

/// How the boot stands, in one sentence.
#[must_use]
pub(super) fn sentence(view: &View) -> String {
    let name = name(view);
    match (&view.stage, view.phase) {
        _ if view.supervisor_failed => format!("{name} has booted, but Supervisor does not run."),
        (_, Phase::Up) => format!("{name} has booted; the portal is starting."),
        (Some(stage), _) => {
            let at = view.stages.iter().position(|known| known.stage == *stage).map_or(0, |at| at + 1);
            format!("{name} is booting: {} ({at} of {}).", title(stage), view.stages.len())
        }
        (None, _) => format!("{name} is booting."),
    }
}

/// An instance that the platform did not name is called so.
fn name(view: &View) -> &str {
    if view.instance.len() > "C.".len() { &view.instance } else { "The instance" }
}

/// What a stage is called; one of the user's by its name without number and extension.
fn title(stage: &str) -> String {
    if let Some((_, title)) = TITLES.iter().find(|(name, _)| *name == stage) {
        return (*title).to_owned();
    }
    let plain = stage.strip_suffix(".sh").unwrap_or(stage);
    let named = plain.split_once('-').filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    named.map_or(plain, |(_, name)| name).replace(['-', '_'], " ")
}

fn head(html: &mut String, view: &View) {
    let through = view.stages.iter().filter(|stage| stage.outcome.is_some_and(|o| o != Outcome::Running)).count();
    let (tone, what) = match (&view.stage, view.phase) {
        _ if view.supervisor_failed => ("bad", "Supervisor does not run".to_owned()),
        (_, Phase::Up) => ("now", "The portal is starting".to_owned()),
        (Some(stage), _) => ("now", title(stage)),
        (None, _) => ("now", "Getting ready".to_owned()),
    };
    let _ = write!(
        html,
        "<header data-tone=\"{tone}\">\n<span class=\"mark\" aria-hidden=\"true\">{}</span>\n<div>\n<h1>{} {}</h1>\n\
         <p role=\"status\">{}</p>\n</div>\n<time title=\"Since the boot began\">{}</time>\n</header>\n\
         <progress class=\"thin\" max=\"{}\" value=\"{through}\" aria-label=\"Stages\"></progress>\n",
        ICON.trim(),
        escape_html(name(view)),
        if view.supervisor_failed { "has no portal" } else { "is starting" },
        escape_html(&what),
        clock(elapsed(view.boot, view.now)),
        view.stages.len().max(1),
    );
    if view.supervisor_failed {
        html.push_str(
            "<p class=\"card note\">The container stays up so that it can be looked at, over SSH: <code>vast-boot status</code> and \
             <code>vast-boot doctor</code> say what is wrong and what to do.</p>\n",
        );
    }
}

fn copying(html: &mut String, copy: &Copy) {
    let left = match copy.seconds_left {
        Some(seconds) if copy.bytes < copy.total_bytes => format!("{} left", clock(Duration::from_secs(seconds))),
        _ if copy.bytes >= copy.total_bytes => "finishing".to_owned(),
        _ => "waiting".to_owned(),
    };
    let _ = write!(
        html,
        "<section class=\"card copy\" aria-label=\"Copying\">\n<div class=\"row\"><strong>{}<small> of {}</small></strong><span>{left}</span></div>\n\
         <progress max=\"{}\" value=\"{}\" aria-label=\"Bytes copied\"></progress>\n\
         <div class=\"row dim\"><span>{} of {} files</span><span>{}/s</span></div>\n</section>\n",
        size(copy.bytes),
        size(copy.total_bytes),
        copy.total_bytes.max(1),
        if copy.total_bytes == 0 { 1 } else { copy.bytes },
        thousands(copy.files),
        thousands(copy.total_files),
        size(copy.bytes_per_second),
    );
}

fn stages(html: &mut String, view: &View) {
    html.push_str("<ol class=\"card stages\">\n");
    for stage in &view.stages {
        one(html, stage);
    }
    html.push_str("</ol>\n");
}

fn one(html: &mut String, stage: &Stage) {
    let (tone, word) = match stage.outcome {
        None => ("next", "to come"),
        Some(Outcome::Running) => ("now", "running"),
        Some(Outcome::Done) => ("good", "done"),
        Some(Outcome::Skipped | Outcome::Masked) => ("idle", "nothing to do"),
        Some(Outcome::GaveUp | Outcome::TimedOut | Outcome::Cancelled) => ("warn", "given up"),
        Some(Outcome::Failed | Outcome::Panicked) => ("bad", "failed"),
    };
    let time = match (stage.outcome, stage.duration_ms) {
        (None | Some(Outcome::Masked | Outcome::Skipped), _) | (_, None) => String::new(),
        (_, Some(ms)) => duration(ms),
    };
    let message = stage.message.as_deref().filter(|_| stage.outcome.is_some_and(Outcome::is_bad));
    let message = message.map(|text| format!("<small>{}</small>", escape_html(text))).unwrap_or_default();
    let _ = writeln!(
        html,
        "<li data-tone=\"{tone}\" title=\"{}\"><i role=\"img\" aria-label=\"{word}\"></i><span>{}{message}</span><time>{time}</time></li>",
        escape_html(&stage.stage),
        escape_html(&title(&stage.stage)),
    );
}

fn output(html: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    html.push_str("<pre id=\"output\" tabindex=\"0\" aria-label=\"Last lines of output\">");
    for line in lines {
        html.push_str(&escape_html(line));
        html.push('\n');
    }
    html.push_str("</pre>\n");
}

/// A time for people: "850 ms", "3.2 s", "2:05".
fn duration(milliseconds: f64) -> String {
    if milliseconds < 100.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.0} ms")
    } else if milliseconds < 60_000.0 {
        format!("{:.1} s", milliseconds / 1000.0)
    } else {
        clock(Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default())
    }
}

/// "42 s", "2:05", "1:02:05".
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Bytes in decimal units, with three digits that count.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    let digits = if unit == "B" || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    fn view() -> View {
        let boot: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let stage = |name: &str, outcome, duration_ms, message: Option<&str>| Stage {
            stage: name.to_owned(),
            outcome,
            duration_ms,
            message: message.map(str::to_owned),
        };
        View {
            instance: "C.7".to_owned(),
            boot,
            now: boot + 125.seconds(),
            phase: Phase::Booting,
            stage: Some("36-sync-workspace.sh".to_owned()),
            stages: vec![
                stage("05-my_app-env.sh", Some(Outcome::Failed), Some(42.0), Some("exited with <3>")),
                stage("36-sync-workspace.sh", Some(Outcome::Running), Some(61_000.0), None),
                stage("95-supervisor-wait.sh", None, None, None),
            ],
            copy: Some(Copy {
                stage: "36-sync-workspace.sh".to_owned(),
                bytes: 1_230_000_000,
                total_bytes: 5_600_000_000,
                files: 12_345,
                total_files: 40_000,
                bytes_per_second: 210_000_000,
                seconds_left: Some(21),
            }),
            supervisor_failed: false,
            output: vec!["<script>alert(1)</script>".to_owned(), "second & last".to_owned()],
        }
    }

    #[test]
    fn the_page_says_where_the_boot_is_and_shows_text_as_text() {
        let html = render(&view());
        for part in [
            "<h1>C.7 is starting</h1>",
            "Fill the workspace</p>",
            ">2:05</time>",
            "1.23 GB<small> of 5.60 GB</small>",
            "21 s left",
            "210 MB/s",
            "12,345 of 40,000 files",
            "my app env<small>exited with &lt;3&gt;</small>",
            "&lt;script&gt;alert(1)&lt;/script&gt;\nsecond &amp; last",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert_eq!(sentence(&view()), "C.7 is booting: Fill the workspace (2 of 3).");
    }

    #[test]
    fn what_comes_after_the_last_stage_is_said() {
        let mut view = View { phase: Phase::Up, instance: "C.".to_owned(), ..view() };
        assert_eq!(sentence(&view), "The instance has booted; the portal is starting.");
        view.supervisor_failed = true;
        assert!(render(&view).contains("vast-boot doctor"));
    }

    #[test]
    fn every_built_in_stage_has_a_title() {
        let titled: Vec<&str> = TITLES.iter().map(|(name, _)| *name).collect();
        let built_in: Vec<&str> = crate::stages::BUILT_IN.iter().map(|stage| stage.name).collect();
        assert_eq!(titled, built_in);
    }

    #[test]
    fn quantities_are_for_people() {
        let sizes = [0, 999, 1000, 12_345, 999_600, 5_600_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.00 kB", "12.3 kB", "1.00 MB", "5.60 GB"]);
        let times = [0.04, 850.0, 3210.0, 125_000.0, 3_725_000.0].map(duration);
        assert_eq!(times, ["0.0 ms", "850 ms", "3.2 s", "2:05", "1:02:05"]);
        assert_eq!([7, 1234, 1_234_567].map(thousands), ["7", "1,234", "1,234,567"]);
    }
}
