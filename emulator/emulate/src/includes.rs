//! What does a text include? Headers beside it, whose host code is left out too, and libraries of host code.

use std::path::{Path, PathBuf};

use crate::headers;
use crate::scan::is_device;

/// Folders of libraries that only host code uses, or that nobody needs to say what a kernel does.
const LIBRARIES: [&str; 24] = [
    "torch/",
    "ATen/",
    "c10/",
    "pybind11/",
    "opencv2/",
    "gtest/",
    "gmock/",
    "benchmark/",
    "boost/",
    "Eigen/",
    "thrust/",
    "nvtx3/",
    "fmt/",
    "spdlog/",
    "glog/",
    "gflags/",
    "absl/",
    "nlohmann/",
    "GL/",
    "GLFW/",
    "linux/",
    "sys/",
    "arpa/",
    "experimental/",
];

/// The name a line includes, with the brackets or quotes around it.
fn included(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?.trim_start();
    let close = match rest.chars().next()? {
        '"' => '"',
        '<' => '>',
        _ => return None,
    };
    rest[1..].find(close).map(|end| &rest[..end + 2])
}

/// Headers a text includes that lie beside it or in `folders`, and those they include, by the name they are included under.
///
/// One in quotes is looked for beside the header that includes it first. A stand-in takes the place of what is included in
/// brackets and that device code needs, and of what only host code needs.
pub(crate) fn own(source: &str, folders: &[PathBuf]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut open: Vec<(String, Option<PathBuf>)> = vec![(source.to_owned(), None)];
    while let Some((text, home)) = open.pop() {
        for target in text.lines().filter_map(included) {
            let (is_quoted, name) = (target.starts_with('"'), &target[1..target.len() - 1]);
            let is_stand_in = !is_quoted && headers::is_device(name);
            if is_stand_in || found.iter().any(|(known, _)| known == name) {
                continue;
            }
            let places = home.iter().filter(|_| is_quoted).chain(folders).map(|folder| folder.join(name));
            let read = places.filter(|path| path.is_file()).find_map(|path| {
                let body = std::fs::read_to_string(&path).ok()?;
                Some((body, path.parent().map(Path::to_owned)))
            });
            if let Some((body, home)) = read.filter(|(body, _)| !headers::is_host(name) || is_device(body)) {
                open.push((body.clone(), home));
                found.push((name.to_owned(), body));
            }
        }
    }
    found
}

/// Headers of host libraries that a text and its headers include.
pub(crate) fn libraries(source: &str, own: &[(String, String)]) -> Vec<String> {
    let texts = std::iter::once(source).chain(own.iter().map(|(_, text)| text.as_str()));
    let names = texts.flat_map(str::lines).filter_map(included).map(|target| &target[1..target.len() - 1]);
    let mut found: Vec<String> = names
        .filter(|name| LIBRARIES.iter().any(|l| name.starts_with(l)) && !headers::is_host(name))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{included, libraries};

    #[test]
    fn includes_are_read() {
        assert_eq!(included("  # include <a/b.h> // x"), Some("<a/b.h>"));
        assert_eq!(included("#include \"a\""), Some("\"a\""));
        for line in ["#include", "#include <a", "#include \"", "#include A", "include <a>", "#define include <a>", "#"]
        {
            assert_eq!(included(line), None, "{line}");
        }
        assert_eq!(libraries("#include <torch/extension.h>\n#include <vector>\n", &[]), ["torch/extension.h"]);
    }
}
