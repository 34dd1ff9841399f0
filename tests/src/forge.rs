//! How do tests get compiled kernels? NVRTC if there is one; in CI there must be.

use enel_bundle::Bundle;
use enel_codegen::{BuildError, Compilation, Forge, add_images};
use enel_lower::Compiled;
use enel_nvrtc::{Arch, Compiler, Search, locate};
use std::num::NonZeroUsize;
use std::sync::OnceLock;

/// The compiler library, or `None` after saying that the test is skipped.
///
/// # Panics
/// With `CI=true` when there is none: there a skip would hide a failure.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub fn compiler() -> Option<&'static Compiler> {
    static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
    let found = COMPILER.get_or_init(|| {
        let toolchain = locate(&Search::from_env(|name| std::env::var_os(name)));
        match toolchain {
            Ok(toolchain) => Some(Compiler::open(&toolchain).expect("a located toolchain opens")),
            Err(error) => {
                assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs NVRTC: {error}");
                None
            }
        }
    });
    if found.is_none() {
        println!("skipped: no NVRTC");
    }
    found.as_ref()
}

/// A bundle of what the front made, without machine code.
pub fn bundle(compiled: Compiled, mode: &str) -> Bundle {
    Bundle { mode: mode.to_owned(), plans: compiled.plans, kernels: compiled.kernels, ..Bundle::default() }
}

/// Compiles every kernel of `bundle` for `targets`, on two threads and without a cache.
///
/// # Errors
/// What rendering and NVRTC report.
pub fn forge(bundle: &mut Bundle, targets: &[Arch], compiler: &Compiler) -> Result<Vec<Compilation>, BuildError> {
    let threads = NonZeroUsize::MIN.saturating_add(1);
    add_images(bundle, targets, &Forge { compiler, cache: None, threads, progress: &|_| {} })
}
