//! Is NVRTC found where it is, and is every place named where it is not? Nothing here uses the network.

#![allow(clippy::print_stdout, reason = "a skipped test says so")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod found;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use enel_nvrtc::{HEADERS, InstallError, Search, Source, Why, ensure, install_with, locate};

#[test]
fn every_wrong_place_is_named_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let broken = dir.path().join("broken");
    fs::create_dir_all(broken.join("lib64")).unwrap();
    fs::write(broken.join("lib64/libnvrtc.so.13"), "no library").unwrap();
    let search = Search {
        toolkits: vec![dir.path().join("nowhere"), empty, broken],
        python: Some(dir.path().join("no-python")),
        data_dir: Some(dir.path().join("data")),
        ..Search::default()
    };
    let error = locate(&search).unwrap_err();
    let whys: Vec<&Why> = error.looked.iter().map(|looked| &looked.why).collect();
    assert!(
        matches!(whys[..], [Why::Missing, Why::NoLibrary, Why::Load(_), Why::Python { .. }, Why::Missing]),
        "{error}"
    );
    let text = error.to_string();
    for part in ["nowhere: does not exist", "empty: holds no libnvrtc.so", "no 64-bit ELF library", "no-python", "data"]
    {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    assert!(text.contains("enel-compile toolchain install"), "{text}");
}

#[test]
fn a_wrong_explicit_path_is_an_error_even_where_a_toolchain_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = Search::from_env(|name| std::env::var_os(name));
    search.explicit = Some(dir.path().join("libnvrtc.so.13"));
    let error = locate(&search).unwrap_err();
    assert!(matches!(error.looked[..], [ref looked] if matches!(looked.why, Why::Missing)), "{error}");
    assert!(ensure(&search, &mut |event| panic!("{event:?}")).is_err(), "and nothing is installed in its stead");
}

#[test]
fn the_search_takes_its_paths_from_the_values_it_is_given() {
    let none = Search::from_env(|_| None);
    assert_eq!((&none.explicit, &none.data_dir), (&None, &None));
    let given = |name: &str| {
        let value = match name {
            "ENEL_NVRTC" => "/a/libnvrtc.so.13",
            "CUDA_HOME" | "CUDA_PATH" => "/b",
            "XDG_DATA_HOME" => "relative",
            "HOME" => "/h",
            _ => return None,
        };
        Some(OsString::from(value))
    };
    let search = Search::from_env(given);
    assert_eq!(search.explicit.as_deref(), Some(Path::new("/a/libnvrtc.so.13")));
    assert_eq!(search.data_dir.as_deref(), Some(Path::new("/h/.local/share/enel")), "relative paths are ignored");
    assert_eq!(search.toolkits[0], Path::new("/b"));
    assert_eq!(search.toolkits.iter().filter(|root| *root == Path::new("/b")).count(), 1);
}

#[test]
fn file_folder_toolkit_and_both_wheel_layouts_are_understood() {
    let Some(found) = found::toolchain() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = |name: &str| dir.path().join(name);
    lay_out(&root("toolkit"), "lib64", "include");
    lay_out(&root("site-new"), "nvidia/cu13/lib", "nvidia/cu13/include");
    lay_out(&root("site-old"), "nvidia/cuda_nvrtc/lib", "nvidia/cuda_runtime/include");
    for name in ["toolkit", "site-new", "site-old"] {
        let located = locate(&Search { toolkits: vec![root(name)], ..Search::default() }).unwrap();
        assert_eq!((located.version(), located.source()), (found.version(), Source::Toolkit));
        assert!(located.nvrtc().starts_with(root(name)), "{located:?}");
    }
    let file = root("toolkit").join("lib64/libnvrtc.so.13");
    for explicit in [file, root("toolkit").join("lib64")] {
        let located = locate(&Search { explicit: Some(explicit), ..Search::default() }).unwrap();
        assert_eq!(located.source(), Source::Explicit);
    }
}

#[test]
fn python_is_asked_for_its_packages() {
    let Some(found) = found::toolchain() else { return };
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    lay_out(&site, "nvidia/cu13/lib", "nvidia/cu13/include");
    let python = script(dir.path(), "python3", &format!("echo relative; echo '{}'", site.display()));
    let located = locate(&Search { python: Some(python), ..Search::default() }).unwrap();
    assert_eq!((located.version(), located.source()), (found.version(), Source::Wheel));
}

#[test]
fn missing_parts_and_cut_files_are_told_apart() {
    let Some(found) = found::toolchain() else { return };
    let dir = tempfile::tempdir().unwrap();
    let explicit = |name: &str| {
        let search = Search { explicit: Some(dir.path().join(name)), ..Search::default() };
        locate(&search).unwrap_err().looked.remove(0).why
    };
    lay_out(&dir.path().join("a"), "lib", "include");
    fs::remove_file(dir.path().join("a/include/cuda_fp16.hpp")).unwrap();
    assert!(matches!(explicit("a"), Why::NoHeaders { header: "cuda_fp16.hpp" }));
    let aside =
        Search { explicit: Some(dir.path().join("a")), include: Some(found.include().to_owned()), ..Search::default() };
    assert_eq!(locate(&aside).unwrap().include(), found.include());

    lay_out(&dir.path().join("b"), "lib", "include");
    for name in fs::read_dir(dir.path().join("b/lib")).unwrap().map(|entry| entry.unwrap().path()) {
        if name.to_string_lossy().contains("builtins") {
            fs::remove_file(name).unwrap();
        }
    }
    assert!(matches!(explicit("b"), Why::NoBuiltins { .. }));

    // A copy: the library may be a hard link to the one that is in use.
    let whole = fs::metadata(found.nvrtc()).unwrap().len();
    fs::create_dir(dir.path().join("c")).unwrap();
    let cut = dir.path().join("c/libnvrtc.so.13");
    fs::copy(found.nvrtc(), &cut).unwrap();
    fs::File::options().write(true).open(&cut).unwrap().set_len(whole * 2 / 3).unwrap();
    assert!(explicit("c").to_string().contains("cut short"));
}

#[test]
fn another_major_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = fake_nvrtc(dir.path()) else {
        println!("skipped: no C compiler");
        return;
    };
    let error = locate(&Search { explicit: Some(library), ..Search::default() }).unwrap_err();
    assert!(matches!(error.looked[0].why, Why::OtherMajor { major: 12, minor: 4, .. }), "{error}");
    assert!(error.to_string().contains("is CUDA 12.4, CUDA 13 is needed"), "{error}");
}

#[test]
fn an_install_tells_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let install = |python: &Path| install_with(python, &data, &mut |_| {}).unwrap_err();
    let none = install(&dir.path().join("nothing"));
    assert!(matches!(none, InstallError::NoPython { .. }) && none.to_string().contains("apt install python3-pip"));
    let no_pip = install(&script(dir.path(), "no-pip", "exit 1"));
    assert!(matches!(no_pip, InstallError::NoPip { .. }) && no_pip.to_string().contains("ensurepip"), "{no_pip}");
    let offline = "case \"$*\" in *--version*) exit 0;; esac; echo 'ERROR: no such host' >&2; exit 1";
    let offline = install(&script(dir.path(), "offline", offline));
    assert!(matches!(offline, InstallError::Pip { .. }) && offline.to_string().contains("no such host"), "{offline}");
    let empty = install(&script(dir.path(), "empty", "exit 0"));
    assert!(matches!(empty, InstallError::Incomplete { .. }), "{empty}");
    let left = fs::read_dir(data.join("toolchain")).unwrap().count();
    assert_eq!(left, 0, "failed installs leave nothing behind");
}

#[test]
fn an_install_places_checks_repeats_and_mends() {
    let Some(found) = found::toolchain() else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Stands in for pip: lays the wheels' files out under the folder behind `--target`.
    let wheels = dir.path().join("wheels");
    lay_out(&wheels, "nvidia/cu13/lib", "nvidia/cu13/include");
    let body = format!(
        "case \"$*\" in *--version*) exit 0;; esac\n\
         case \"$*\" in *--require-hashes*) ;; *) exit 3;; esac\n\
         while [ \"$1\" != --target ]; do shift; done\n\
         echo 'Collecting wheels'; cp -rL '{}' \"$2\"",
        wheels.display()
    );
    let python = script(dir.path(), "pip", &body);
    let install = |events: &mut Vec<String>| {
        install_with(&python, &data, &mut |event| events.push(format!("{event:?}"))).unwrap()
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| install(&mut Vec::new())), scope.spawn(|| install(&mut Vec::new()))];
        for one in both {
            assert_eq!(one.join().unwrap().version(), found.version());
        }
    });
    let left: Vec<_> = fs::read_dir(data.join("toolchain")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["cuda-13.0.88"], "no temporary folder is left");

    let mut events = Vec::new();
    let again = install(&mut events);
    assert!(matches!(&events[..], [only] if only.starts_with("AlreadyThere")), "{events:?}");
    let search = Search { data_dir: Some(data.clone()), ..Search::default() };
    assert_eq!(locate(&search).unwrap(), again);
    assert_eq!(again.source(), Source::Installed);

    fs::remove_file(again.include().join("cuda_fp16.h")).unwrap();
    assert!(locate(&search).is_err());
    let mut events = Vec::new();
    install(&mut events);
    assert!(events.iter().any(|event| event.contains("Collecting wheels")), "{events:?}");
    assert_eq!(locate(&search).unwrap(), again);
}

/// Makes a toolchain under `root` out of the one found.
fn lay_out(root: &Path, lib: &str, include: &str) {
    let found = found::toolchain().unwrap();
    let (lib, include) = (root.join(lib), root.join(include));
    fs::create_dir_all(&lib).unwrap();
    fs::create_dir_all(&include).unwrap();
    for from in [found.nvrtc(), found.builtins()] {
        let to = lib.join(from.file_name().unwrap());
        // Not a symbolic link: its target's folder would serve for what is missing here.
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to).unwrap();
        }
    }
    for header in HEADERS {
        fs::copy(found.include().join(header), include.join(header)).unwrap();
    }
}

/// Stands in for an interpreter.
fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A library with NVRTC's names that says it is 12.4.
fn fake_nvrtc(dir: &Path) -> Option<PathBuf> {
    let names = [
        "GetErrorString",
        "GetNumSupportedArchs",
        "GetSupportedArchs",
        "CreateProgram",
        "DestroyProgram",
        "CompileProgram",
        "GetProgramLogSize",
        "GetProgramLog",
        "GetPTXSize",
        "GetPTX",
        "GetCUBINSize",
        "GetCUBIN",
        "AddNameExpression",
        "GetLoweredName",
    ];
    let mut source = "int nvrtcVersion(int *major, int *minor) { *major = 12; *minor = 4; return 0; }\n".to_owned();
    for name in names {
        source.push_str(&format!("int nvrtc{name}(void) {{ return 1; }}\n"));
    }
    let file = dir.join("fake.c");
    fs::write(&file, source).unwrap();
    let library = dir.join("libnvrtc.so.12");
    let mut cc = std::process::Command::new("cc");
    let status = cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).status().ok()?;
    status.success().then_some(library)
}
