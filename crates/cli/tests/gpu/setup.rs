//! The whole set-up of stage 05, by `plan` and `apply`, with the real loading code on libraries of every kind.

use std::fs;
use std::time::Duration;

use vast_gpu::cuda::{Choice, Maximum, Patience, configure};
use vast_gpu::runner::ChildProcess;

use crate::container::{LIBRARIES, asker, container, current, gpu, json, kernel_driver, no_nvml, said, text, toolkit};
use crate::libraries::{
    CRASHES, FAILS, HANGS, HANGS_WHEN_LOADED, MISMATCHES, NOT_YET, NVML, REFUSES, SAYS, STARTS, TELLS, WORKS, library,
};

#[test]
fn plan_tells_what_boot_will_do_and_does_nothing() {
    let root = container(WORKS);
    toolkit(root.path(), "12.4", None);
    toolkit(root.path(), "12.8", None);
    let plan = gpu(root.path(), "plan", None).assert().success();
    let text = String::from_utf8_lossy(&plan.get_output().stdout).into_owned();
    assert!(text.starts_with("CUDA 12.8\n  link /usr/local/cuda to /usr/local/cuda-12.8\n"), "{text}");
    assert!(text.contains("  set CUDA_HOME=/usr/local/cuda\n") && text.ends_with("  run ldconfig\n"), "{text}");
    assert!(!root.path().join("usr/local/cuda").exists() && !root.path().join("run").exists());

    let plan = json(&mut gpu(root.path(), "plan", None));
    assert_eq!(plan["choice"]["native"], "12.8");
    assert_eq!(plan["environment"]["set"]["CUDA_HOME"], "/usr/local/cuda");
}

#[test]
fn plan_tries_forward_compatibility_with_the_real_loader() {
    let root = container(WORKS);
    toolkit(root.path(), "13.0", Some(WORKS));
    assert_eq!(json(&mut gpu(root.path(), "plan", None))["choice"]["forward-compat"], "13.0");
}

#[test]
fn a_container_without_a_gpu_is_healthy() {
    let root = tempfile::tempdir().unwrap();
    let empty = no_nvml();
    gpu(root.path(), "plan", None).assert().success().stdout("no NVIDIA driver: nothing to set up\n").stderr("");
    gpu(root.path(), "torch-backend", Some(empty.path())).assert().success().stdout("cpu\n");
    gpu(root.path(), "check", Some(empty.path())).assert().success().stderr("");
    gpu(root.path(), "apply", Some(empty.path())).assert().success();
}

#[test]
fn an_unknown_version_is_told_and_never_guessed() {
    let root = container(CRASHES);
    toolkit(root.path(), "12.8", None);
    let applied = gpu(root.path(), "apply", None).assert().code(1).stdout("CUDA stays as it is\n");
    assert!(String::from_utf8_lossy(&applied.get_output().stderr).contains("crashed"));
    assert!(fs::read_to_string(root.path().join("run/vast-cuda-config-failed")).unwrap().contains("crashed"));
    gpu(root.path(), "check", None).assert().code(1);
    gpu(root.path(), "torch-backend", None).assert().code(2);
}

/// NVIDIA's branches, how the kernel names them, the newest CUDA version of each as `cuDriverGetVersion` counts, and what an image with
/// CUDA 12.4, 12.8 and 13.0 uses then.
const DRIVERS: [(&str, bool, u32, &str); 14] = [
    ("535.54.03", false, 12020, "minor-version 12.4"),
    ("535.183.01", true, 12020, "minor-version 12.4"),
    ("545.23.06", false, 12030, "minor-version 12.4"),
    ("550.54.14", true, 12040, "native 12.4"),
    ("555.42.02", false, 12050, "native 12.4"),
    ("560.35.05", true, 12060, "native 12.4"),
    ("565.57.01", true, 12070, "native 12.4"),
    ("570.26", false, 12080, "native 12.8"),
    ("575.51.03", true, 12090, "native 12.8"),
    ("580.65.06", true, 13000, "native 13.0"),
    ("590.44.01", true, 13010, "native 13.0"),
    ("595.45.04", true, 13020, "native 13.0"),
    ("610.43.02", true, 13030, "native 13.0"),
    // Newer than every table, and a minor version of two digits.
    ("615.10", true, 13100, "native 13.0"),
];

#[test]
fn every_driver_from_535_to_615_gets_the_toolkit_that_fits_it_with_nvml_and_without() {
    let libraries = tempfile::tempdir().unwrap();
    library(&libraries.path().join("libcuda.so"), SAYS, &[]);
    library(&libraries.path().join("nvml/libnvidia-ml.so.1"), NVML, &[]);
    let (with, without) = (libraries.path().join("nvml"), no_nvml());
    for (driver, open, number, expected) in DRIVERS {
        let root = tempfile::tempdir().unwrap();
        let kernel =
            if open { "NVIDIA UNIX Open Kernel Module for x86_64" } else { "NVIDIA UNIX x86_64 Kernel Module" };
        kernel_driver(
            root.path(),
            &format!("{kernel}  {driver}  Release Build  (dvs-builder@U22)  Wed Feb 26 02:10:48 UTC 2025"),
        );
        fs::create_dir_all(root.path().join(LIBRARIES)).unwrap();
        let own = root.path().join(LIBRARIES).join(format!("libcuda.so.{driver}"));
        fs::copy(libraries.path().join("libcuda.so"), &own).unwrap();
        for version in ["12.4", "12.8", "13.0"] {
            toolkit(root.path(), version, None);
        }
        let maximum = format!("{}.{}", number / 1000, number % 1000 / 10);
        for (nvml, devices) in [(with.as_path(), 1), (without.path(), 0)] {
            let asked = |subcommand: &str| {
                let mut command = gpu(root.path(), subcommand, Some(nvml));
                command.env("FAKE_CUDA", number.to_string()).env("FAKE_DEVICES", "9.0").env("FAKE_DRIVER", driver);
                command
            };
            let shown = json(&mut asked("probe"));
            assert_eq!(shown["driver"]["version"], driver);
            assert_eq!(shown["driver"]["maximum"]["driver"], maximum.as_str(), "{driver}");
            assert_eq!(shown["driver"]["library"], own.display().to_string(), "{driver}");
            assert_eq!(shown["devices"].as_array().unwrap().len(), devices, "{driver}");
            let plan = json(&mut asked("plan"));
            let choice = plan["choice"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(format!("{} {}", choice.0, choice.1.as_str().unwrap()), expected, "{driver}");
            let applied = asked("apply").assert().success();
            let version = expected.split(' ').nth(1).unwrap();
            assert_eq!(current(root.path()), Some(format!("/usr/local/cuda-{version}")), "{driver}");
            // A toolkit that is newer than the driver is used, and that is said.
            assert_eq!(
                said(&applied).1.contains("minor-version compatibility"),
                expected.starts_with("minor"),
                "{driver}"
            );
            assert_eq!(text(root.path(), "run/vast-cuda-config-failed"), None, "{driver}");
        }
    }
}

/// An image with CUDA 12.8 and 13.0, whose compat library has this code.
fn with_compat(code: &str) -> tempfile::TempDir {
    let root = container(WORKS);
    toolkit(root.path(), "12.8", None);
    toolkit(root.path(), "13.0", Some(code));
    root
}

#[test]
fn what_the_compat_library_does_decides_between_it_and_what_the_driver_supports() {
    for (code, reason) in [
        (STARTS, None),
        (REFUSES, Some("cuInit returned 804: this device does not support forward compatibility")),
        (MISMATCHES, Some("cuInit returned 803: the libraries do not match the kernel's driver")),
        (CRASHES, Some("crashed")),
        (FAILS, Some("cuInit")),
        (HANGS, Some("did not answer within")),
        (HANGS_WHEN_LOADED, Some("did not answer within")),
    ] {
        let root = with_compat(code);
        let runner = ChildProcess { limit: Duration::from_secs(3), ..asker() };
        let patience = Patience { tries: 1, pause: Duration::ZERO };
        let plan = configure(root.path(), &[].into(), &runner, patience).unwrap();
        let Some(reason) = reason else {
            assert_eq!(plan.choice, Choice::ForwardCompat("13.0".parse().unwrap()));
            assert_eq!(text(root.path(), "etc/vast-cuda-compat-established").as_deref(), Some("13.0\n"));
            let conf = text(root.path(), "etc/ld.so.conf.d/0-compat-cuda.conf");
            assert_eq!(conf.as_deref(), Some("/usr/local/cuda-13.0/compat\n"));
            continue;
        };
        assert_eq!(plan.choice, Choice::Native("12.8".parse().unwrap()), "{reason}");
        assert!(plan.messages.iter().any(|message| message.contains(reason)), "{reason}: {plan:?}");
        assert_eq!(current(root.path()).as_deref(), Some("/usr/local/cuda-12.8"));
        assert_eq!(text(root.path(), "etc/ld.so.conf.d/0-compat-cuda.conf"), None);
        assert_eq!(text(root.path(), "etc/ld.so.conf.d/10-cuda.conf").as_deref(), Some("/usr/local/cuda/lib64\n"));
    }
}

#[test]
fn what_the_drivers_library_does_never_leads_to_a_guess() {
    for (code, reason) in [
        (FAILS, "cuDriverGetVersion returned 3"),
        (CRASHES, "crashed"),
        (HANGS, "did not answer within"),
        (HANGS_WHEN_LOADED, "did not answer within"),
        ("int cuDriverGetVersion(int *v) { *v = 0; return 0; }", "the version 0"),
    ] {
        let root = container(code);
        toolkit(root.path(), "12.8", None);
        let runner = ChildProcess { limit: Duration::from_secs(3), ..asker() };
        let plan = configure(root.path(), &[].into(), &runner, Patience::default()).unwrap();
        assert_eq!((plan.choice, plan.changes.len(), current(root.path())), (Choice::Keep, 0, None), "{reason}");
        let failure = text(root.path(), "run/vast-cuda-config-failed").unwrap();
        assert!(failure.contains(reason), "{failure}");
    }
}

#[test]
fn a_hanging_driver_is_given_up_by_the_program_itself() {
    let root = container(HANGS);
    toolkit(root.path(), "12.8", None);
    let applied = gpu(root.path(), "apply", None).assert().code(1).stdout("CUDA stays as it is\n");
    assert!(said(&applied).1.contains("did not answer within 15 s"));
}

#[test]
fn a_driver_that_gets_ready_while_it_is_asked_is_waited_for() {
    let root = with_compat(NOT_YET);
    let tries = root.path().join("tries");
    gpu(root.path(), "apply", None).env("FAKE_TRIES", &tries).assert().success();
    assert_eq!(fs::read_to_string(&tries).unwrap(), "xxx");
    assert_eq!(current(root.path()).as_deref(), Some("/usr/local/cuda-13.0"));
}

#[test]
fn a_compat_library_that_must_not_be_loaded_is_not_loaded() {
    let trace = tempfile::tempdir().unwrap();
    let loaded = trace.path().join("loaded");
    for (driver, variables, may) in [
        ("570.26", &[][..], true),
        // The library is of driver 580.65.06: older than this one.
        ("580.70.01", &[], false),
        ("570.26", &[("DISABLE_FORWARD_COMPAT", "true")], false),
        ("570.26", &[("VAST_CUDA_MAX_OVERRIDE", "13.0")], false),
    ] {
        let root = with_compat(TELLS);
        let own = root.path().join(LIBRARIES);
        fs::rename(own.join("libcuda.so.570.26"), own.join(format!("libcuda.so.{driver}"))).unwrap();
        kernel_driver(root.path(), &format!("NVIDIA UNIX x86_64 Kernel Module  {driver}  Wed Jan 1"));
        gpu(root.path(), "apply", None).envs(variables.iter().copied()).env("FAKE_TRACE", &loaded).assert().success();
        assert_eq!(loaded.exists(), may, "{driver} {variables:?}");
        let _ = fs::remove_file(&loaded);
    }
}

#[test]
fn the_override_is_announced_compared_by_component_and_refused_when_it_is_no_version() {
    let root = container(CRASHES);
    for version in ["13.9", "13.10"] {
        toolkit(root.path(), version, None);
    }
    for (value, choice, told) in [
        ("13.10", "CUDA 13.10", "VAST_CUDA_MAX_OVERRIDE=13.10 stands for the driver's newest CUDA version"),
        ("13.9", "CUDA 13.9", "VAST_CUDA_MAX_OVERRIDE=13.9 stands for"),
        ("latest", "CUDA stays as it is", "VAST_CUDA_MAX_OVERRIDE is ignored: `latest` is not a version"),
    ] {
        let plan = gpu(root.path(), "plan", None).env("VAST_CUDA_MAX_OVERRIDE", value).assert().success();
        let (out, error) = said(&plan);
        assert!(out.starts_with(&format!("{choice}\n")), "{out}");
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn the_plan_is_data_and_what_apply_then_does() {
    let root = with_compat(STARTS);
    fs::create_dir_all(root.path().join("etc/ld.so.conf.d")).unwrap();
    fs::write(root.path().join("etc/ld.so.conf.d/988_cuda-12.conf"), "/usr/local/cuda-12/lib64\n/opt/lib\n").unwrap();
    let plan = json(gpu(root.path(), "plan", None).env("LD_LIBRARY_PATH", "/usr/local/cuda-12.4/lib64"));
    let expected = serde_json::json!([
        {"link": {"path": "/usr/local/cuda", "target": "/usr/local/cuda-13.0"}},
        {"write": {"path": "/etc/ld.so.conf.d/988_cuda-12.conf", "content": "/opt/lib\n"}},
        {"write": {"path": "/etc/ld.so.conf.d/10-cuda.conf", "content": "/usr/local/cuda/lib64\n"}},
        {"write": {"path": "/etc/ld.so.conf.d/0-compat-cuda.conf", "content": "/usr/local/cuda-13.0/compat\n"}},
        {"link": {"path": "/usr/lib/x86_64-linux-gnu/libcuda.so", "target": "libcuda.so.1"}},
        {"write": {"path": "/etc/vast-cuda-compat-established", "content": "13.0\n"}},
    ]);
    assert_eq!(plan["changes"], expected);
    assert_eq!((&plan["ldconfig"], &plan["failure"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(plan["environment"]["unset"], serde_json::json!(["LD_LIBRARY_PATH"]));
    gpu(root.path(), "apply", None).assert().success();
    for change in expected.as_array().unwrap() {
        let at =
            |change: &serde_json::Value| root.path().join(change["path"].as_str().unwrap().trim_start_matches('/'));
        match (change.get("link"), change.get("write")) {
            (Some(link), _) => {
                assert_eq!(fs::read_link(at(link)).unwrap().to_str(), link["target"].as_str(), "{change}");
            }
            (_, Some(write)) => {
                assert_eq!(fs::read_to_string(at(write)).ok().as_deref(), write["content"].as_str(), "{change}");
            }
            _ => panic!("{change}"),
        }
    }
    let again = json(&mut gpu(root.path(), "plan", None));
    assert_eq!((&again["changes"], &again["ldconfig"]), (&serde_json::json!([]), &false.into()));
}

#[test]
fn an_overridden_maximum_names_no_library() {
    let root = container(WORKS);
    let facts = vast_gpu::cuda::gather(
        root.path(),
        &[("VAST_CUDA_MAX_OVERRIDE".to_owned(), "12.5".to_owned())].into(),
        &asker(),
    );
    let driver = facts.unwrap().driver.unwrap();
    assert_eq!((driver.maximum, driver.library), (Maximum::Override("12.5".parse().unwrap()), None));
}
