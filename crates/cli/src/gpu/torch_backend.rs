//! `vast-gpu torch-backend`: the concrete name of `PyTorch`'s backend.

use vast_gpu::CudaVersion;
use vast_gpu::probe::{Device, Prober, Vendor};
use vast_gpu::tables::{self, NoBackend};

use super::{PROGRAM, end, facts};
use crate::instance::{Root, environment};
use crate::report::Exit;

/// Print the backend to install `PyTorch` for, such as cu128
///
/// It follows from the CUDA toolkit in use, else from the driver, and from the devices; without an NVIDIA driver it is cpu. Use it as
/// `uv pip install torch --torch-backend "$(vast-gpu torch-backend)"`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    root: Root,
}

pub(super) fn run(args: &Args) -> Exit {
    end(try_run(args))
}

fn try_run(args: &Args) -> Result<Exit, Exit> {
    let facts = facts(&args.root.root, &environment())?;
    let devices = Prober::open(&args.root.root).probe().devices;
    let Some(driver) = facts.driver else {
        if devices.iter().any(|device| device.vendor == Vendor::Amd) {
            eprintln!(
                "{PROGRAM}: there are only AMD devices, and which ROCm backend fits them is not known\n  \
                 hint: name one (rocm6.4, …) that the installed ROCm supports"
            );
            return Err(Exit::CouldNot);
        }
        println!("cpu");
        return Ok(Exit::Success);
    };
    let Some(newest) = facts.current.or_else(|| driver.maximum.version()) else {
        eprintln!("{PROGRAM}: no toolkit is in use, and of the driver: {}", driver.maximum);
        return Err(Exit::CouldNot);
    };
    let capabilities: Vec<(u32, u32)> = devices.iter().filter_map(Device::compute_capability).collect();
    let backend = tables::torch_backend(newest, &capabilities).map_err(|reason| {
        eprintln!("{PROGRAM}: no build of PyTorch fits: {}", explain(reason, newest, &capabilities));
        Exit::CouldNot
    })?;
    println!("{}", backend.torch_backend());
    Ok(Exit::Success)
}

/// Why there is none, and what would help.
fn explain(reason: NoBackend, newest: CudaVersion, capabilities: &[(u32, u32)]) -> String {
    match reason {
        NoBackend::TooOld { oldest } => {
            format!("CUDA {newest} is in use, and the oldest one with builds is {oldest}\n  hint: use a newer toolkit")
        }
        NoBackend::NewDevice { device: (major, minor), first } => format!(
            "a device of compute capability {major}.{minor} needs CUDA {first} or newer, and CUDA {newest} is in use\n  \
             hint: use a newer toolkit, on a machine whose driver supports it"
        ),
        NoBackend::NoneForAll => {
            let devices: Vec<String> = capabilities.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
            format!(
                "none up to CUDA {newest} runs on all of these devices, of compute capability {}\n  \
                 hint: hide some of them from the container (NVIDIA_VISIBLE_DEVICES)",
                devices.join(", ")
            )
        }
    }
}
