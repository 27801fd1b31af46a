//! The driver and the devices, asked by `vast-gpu`, and what stage 05 made of them.

use serde_json::Value;
use vast_gpu::cuda::FAILED_MARKER;

use super::{Area, Finding, Look, Severity, quoted};
use crate::process::{Invocation, Output, Wait};

/// The variable by which the container's runtime is asked for devices.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Bounds what is read of the answer.
const ANSWER_BYTES: u64 = 4 << 20;

/// What is known of the GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Why stage 05 could not set CUDA up.
    pub failure: Option<String>,
    /// What there is, or why `vast-gpu` could not tell.
    pub probe: Result<Probe, Silence>,
    /// The driver's control device is there: the container was given GPUs.
    pub has_device: bool,
    /// The container asks for GPUs by number or name, not as every image does.
    pub asked_for: Option<String>,
}

/// Why `vast-gpu` says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It could not be run.
    NotRun(String),
    /// It did not end well: the driver's library crashed it, or hangs.
    Died(String),
}

impl Default for Facts {
    fn default() -> Self {
        Self { failure: None, probe: Ok(Probe::default()), has_device: false, asked_for: None }
    }
}

/// What `vast-gpu probe` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// The NVIDIA driver: its version, and why it does not answer, if so.
    pub driver: Option<(String, Option<String>)>,
    /// The names of the devices.
    pub devices: Vec<String>,
    /// Why something that seems to be there could not be asked.
    pub notes: Vec<String>,
}

impl Facts {
    pub(super) fn summary(&self) -> String {
        match &self.probe {
            Ok(probe) if probe.devices.is_empty() && probe.driver.is_none() => "none".to_owned(),
            Ok(probe) => {
                let driver =
                    probe.driver.as_ref().map_or_else(String::new, |(version, _)| format!(", driver {version}"));
                format!("{}{driver}", counted(&probe.devices))
            }
            Err(_) => "not asked".to_owned(),
        }
    }
}

fn counted(devices: &[String]) -> String {
    match devices {
        [] => "no devices".to_owned(),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => format!("{} × {first}", devices.len()),
        _ => devices.join(", "),
    }
}

pub(super) fn gather(look: &Look<'_>) -> Facts {
    let failure =
        quoted::tail(&look.root.join(FAILED_MARKER), ANSWER_BYTES).ok().map(|tail| tail.text.trim().to_owned());
    let asked_for = look.env.non_empty(VISIBLE).filter(|asked| !["void", "none", "all"].contains(asked));
    Facts {
        failure,
        probe: probe(look),
        has_device: look.root.join("/dev/nvidiactl").exists(),
        asked_for: asked_for.map(str::to_owned),
    }
}

fn probe(look: &Look<'_>) -> Result<Probe, Silence> {
    let not_run = |reason: String| Silence::NotRun(reason);
    let answer =
        tempfile::Builder::new().prefix("vast-doctor-").tempdir().map_err(|error| not_run(error.to_string()))?;
    let file = answer.path().join("answer");
    let mut invocation =
        Invocation::new(&look.vast_gpu, look.env.clone()).argument("probe").argument("--json").argument("--root");
    invocation = invocation.argument(look.root.path());
    invocation.output = Output::Log(file.clone());
    invocation.limit = Some(look.patience);
    let waited = look.runner.run(&invocation).map_err(|error| not_run(error.chain()))?;
    let said = quoted::tail(&file, ANSWER_BYTES).map(|tail| tail.text).unwrap_or_default();
    match waited {
        Wait::Ended(status) if status.success() => parse(&said).ok_or_else(|| not_run(said)),
        Wait::Ended(status) => Err(Silence::Died(format!("it {}: {}", crate::process::describe(status), said.trim()))),
        Wait::TimedOut | Wait::Cancelled => {
            Err(Silence::Died(format!("no answer within {} s", look.patience.as_secs())))
        }
    }
}

/// Reads the line of JSON; warnings of libraries may stand around it.
fn parse(said: &str) -> Option<Probe> {
    let value: Value = said.lines().find_map(|line| serde_json::from_str(line).ok())?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let driver = value.get("driver").filter(|driver| !driver.is_null()).map(|driver| {
        let version = driver.get("version").and_then(text).unwrap_or_else(|| "of unknown version".to_owned());
        (version, driver.get("maximum").and_then(|maximum| maximum.get("unknown")).and_then(text))
    });
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |device: &Value| device.get("name").and_then(text).unwrap_or_else(|| "GPU".to_owned());
    Some(Probe {
        driver,
        devices: list("devices").iter().map(name).collect(),
        notes: list("notes").iter().filter_map(text).collect(),
    })
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    let facts = &all.gpu;
    let tell = |severity, what: String, remedy: &str| Finding::new(Area::Gpu, severity, what, remedy);
    let replace =
        "restart the instance; if it stays so, the machine's driver is broken: report the machine and rent another";
    let mut findings = Vec::new();
    if let Some(reason) = &facts.failure {
        let remedy = "`vast-gpu plan` shows what fits this driver, `vast-gpu apply` sets it up; a driver too old for the image needs another machine, or an image with an older CUDA";
        findings.push(tell(Severity::Problem, "CUDA could not be set up".to_owned(), remedy).because([reason.clone()]));
    }
    match &facts.probe {
        Err(Silence::NotRun(reason)) => {
            let remedy = "vast-gpu must stand beside vast-boot: check /opt/instance-tools/bin";
            findings.push(
                tell(Severity::Unknown, "vast-gpu could not be run".to_owned(), remedy).because([reason.clone()]),
            );
        }
        Err(Silence::Died(reason)) => {
            let what = "the driver's libraries hang or crash".to_owned();
            findings.push(tell(Severity::Problem, what, replace).because([reason.clone()]));
        }
        Ok(probe) => {
            if let Some((version, Some(reason))) = &probe.driver {
                let what = format!("the NVIDIA driver {version} does not answer");
                findings.push(
                    tell(Severity::Problem, what, replace).because([reason.clone()]).because(probe.notes.clone()),
                );
            } else if !probe.notes.is_empty() {
                let what = "the driver answers only in part".to_owned();
                findings.push(tell(Severity::Warning, what, replace).because(probe.notes.clone()));
            } else if probe.devices.is_empty() && facts.has_device {
                findings.push(tell(
                    Severity::Problem,
                    "the container was given a driver, but no GPU".to_owned(),
                    replace,
                ));
            }
            let wanted = facts.asked_for.as_ref().filter(|_| probe.devices.is_empty() && !facts.has_device);
            if let Some(asked) = wanted {
                let what = format!("{VISIBLE}={asked} asks for GPUs, and the container has none");
                findings.push(tell(Severity::Warning, what, replace));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_vast_gpu_is_read_among_warnings() {
        let said = "libamd: warning\n{\"driver\":{\"version\":\"570.26\",\"maximum\":{\"unknown\":\"no libcuda\"}},\"toolkits\":[],\"devices\":[{\"name\":\"H100\"},{\"name\":null}],\"notes\":[\"n\"]}\n";
        let probe = Probe {
            driver: Some(("570.26".to_owned(), Some("no libcuda".to_owned()))),
            devices: vec!["H100".to_owned(), "GPU".to_owned()],
            notes: vec!["n".to_owned()],
        };
        assert_eq!(parse(said), Some(probe));
        assert_eq!(parse("{\"driver\":null}"), Some(Probe::default()));
        assert_eq!(parse("nothing"), None);
    }
}
