//! Where the tests get a compiler: the usual search, or none, which they say.

use std::sync::OnceLock;

use enel_nvrtc::{Arch, Compiler, Options, Search, Toolchain, Unit, locate};

/// The toolchain of this machine; without one `None` and a printed line, or a failure where `CI=true`.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn toolchain() -> Option<&'static Toolchain> {
    static FOUND: OnceLock<Option<Toolchain>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match locate(&Search::from_env(|name| std::env::var_os(name))) {
        Ok(found) => Some(found),
        Err(error) if std::env::var("CI").is_ok_and(|value| value == "true") => panic!("{error}"),
        Err(_) => None,
    });
    if found.is_none() {
        println!("skipped: no NVRTC");
    }
    found.as_ref()
}

/// The compiler of [`toolchain`].
#[allow(dead_code, reason = "not every suite compiles")]
pub(crate) fn compiler() -> Option<&'static Compiler> {
    static OPEN: OnceLock<Option<Compiler>> = OnceLock::new();
    OPEN.get_or_init(|| toolchain().map(|found| Compiler::open(found).unwrap())).as_ref()
}

/// A unit with the default options.
#[allow(dead_code, reason = "not every suite compiles")]
pub(crate) fn unit<'a>(name: &'a str, source: &'a str, arch: Arch) -> Unit<'a> {
    Unit { name, source, arch, options: Options::default() }
}
