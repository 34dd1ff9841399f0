//! Finds NVRTC, installing it where there is none, and says where it is.

use enel_nvrtc::{Compiler, InstallEvent, Search, ensure};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let search = Search::from_env(|name| std::env::var_os(name));
    let toolchain = ensure(&search, &mut |event| match event {
        InstallEvent::AlreadyThere(place) => eprintln!("{} is there", place.display()),
        InstallEvent::Fetching(packages) => {
            let total_mb: u32 = packages.iter().map(|package| package.download_mb).sum();
            eprintln!("fetching {total_mb} MB");
        }
        InstallEvent::Said(line) => eprintln!("  {line}"),
        InstallEvent::Placing(place) => eprintln!("placing {}", place.display()),
    })?;
    let compiler = Compiler::open(&toolchain)?;
    eprintln!("{}: {}", toolchain.source(), toolchain.nvrtc().display());
    eprintln!("{}", compiler.build());
    Ok(())
}
