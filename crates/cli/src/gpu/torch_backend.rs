//! `vast-gpu torch-backend`: the concrete name of `PyTorch`'s backend.

use vast_gpu::probe::{Device, Prober, Vendor};
use vast_gpu::tables;

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
            eprintln!("{PROGRAM}: there are only AMD devices, and the backend for them is not known");
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
    let Some(backend) = tables::torch_backend(newest, &capabilities) else {
        eprintln!("{PROGRAM}: no build of PyTorch runs on CUDA {newest} with these devices");
        return Err(Exit::CouldNot);
    };
    println!("{}", backend.torch_backend());
    Ok(Exit::Success)
}
