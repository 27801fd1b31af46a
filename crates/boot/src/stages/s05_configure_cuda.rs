//! Stage 05: the CUDA toolkit that fits the driver.

use vast_gpu::cuda::{self, Choice, Patience};
use vast_gpu::runner::ChildProcess;

use crate::error::Error;
use crate::stage::{Boot, Verdict};

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let env = boot.env.to_map();
    let (root, map) = (boot.root.path().to_owned(), env.clone());
    let runner =
        ChildProcess::beside_this_program().map_err(|source| Error::Run { program: "vast-gpu".to_owned(), source })?;
    // Questions to a driver that is not ready take seconds. A stop leaves what was begun to the next boot, which finds its mark.
    let plan = boot.interruptible(move || cuda::configure(&root, &map, &runner, Patience::default()))??;
    for message in &plan.messages {
        boot.say(&format!("05-configure-cuda.sh: {message}"));
    }
    let changes = plan.environment(&env);
    for name in &changes.unset {
        boot.env.remove(name);
    }
    for (name, value) in &changes.set {
        boot.env.set(name, value);
    }
    let (failure, choice) = (plan.failure.clone(), plan.choice);
    boot.cuda = Some(plan);
    Ok(match (failure, choice) {
        (Some(reason), _) => Verdict::GaveUp(reason),
        (None, Choice::NoDriver) => Verdict::skipped("no NVIDIA driver"),
        (None, choice) => match choice.toolkit() {
            Some(version) => Verdict::said(format!("CUDA {version}")),
            None => Verdict::done(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn without_a_driver_there_is_nothing_to_do() {
        let fake = Fake::new();
        fake.boot(&[("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")], |boot| {
            assert_eq!(run(boot).unwrap(), Verdict::skipped("no NVIDIA driver"));
            assert_eq!(boot.env.get("LD_LIBRARY_PATH"), Some("/usr/local/cuda/lib64"));
        });
    }

    #[test]
    fn the_toolkit_that_fits_the_driver_reaches_the_later_stages() {
        let fake = Fake::new();
        fake.write(
            "/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 2025\n",
        );
        fake.write("/usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15", "");
        fake.write("/usr/local/cuda-12.8/version.json", "{}");
        fake.write("/usr/local/cuda-13.0/version.json", "{}");
        fake.boot(&[("VAST_CUDA_MAX_OVERRIDE", "12.9"), ("LD_LIBRARY_PATH", "/usr/local/cuda-12.4/lib64")], |boot| {
            assert_eq!(run(boot).unwrap(), Verdict::said("CUDA 12.8"));
            assert_eq!(boot.env.get("CUDA_HOME"), Some("/usr/local/cuda"));
            assert!(boot.env.get("PATH").unwrap().starts_with("/usr/local/cuda/bin:"));
            assert_eq!(boot.env.get("LD_LIBRARY_PATH"), None);
        });
        assert!(fake.said().contains("VAST_CUDA_MAX_OVERRIDE"), "{}", fake.said());
    }
}
