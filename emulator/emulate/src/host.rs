//! Which parts of a CUDA file are for the host? They are blanked out: NVRTC takes device code only.
//!
//! A scan by brackets, not a parser: at namespace level it looks at each function, class and declaration, and blanks
//! those without `__device__` or `__global__` that name something only a host has, or call what was blanked.
//! Lines stay where they are.

/// Text that only host code holds, before which no letter may stand.
const HOST_WORDS: [&str; 34] = [
    "cudaMalloc",
    "cudaFree",
    "cudaMem",
    "cudaDevice",
    "cudaGet",
    "cudaSet",
    "cudaEvent",
    "cudaStream",
    "cudaFunc",
    "cudaLaunch",
    "cudaError",
    "cudaSuccess",
    "cudaOccupancy",
    "cudaPeek",
    "cudaHost",
    "cudaDriver",
    "cuTensorMap",
    "cuInit",
    "cuGet",
    "cuModule",
    "cuLaunch",
    "cuMem",
    "cublas",
    "curand",
    "CUresult",
    "CUstream",
    "thrust::",
    "PFN_",
    "fprintf",
    "std::cout",
    "std::cerr",
    "exit(",
    "gettimeofday",
    "getenv",
];

/// Names in `std` that no kernel uses.
const HOST_STD: [&str; 22] = [
    "vector",
    "string",
    "chrono",
    "mt19937",
    "random_device",
    "uniform_",
    "normal_",
    "default_random_engine",
    "ofstream",
    "ifstream",
    "ostream",
    "stringstream",
    "unique_ptr",
    "shared_ptr",
    "function",
    "map",
    "unordered_map",
    "runtime_error",
    "exception",
    "endl",
    "thread",
    "mutex",
];

/// Marks of device code.
const DEVICE_WORDS: [&str; 5] = ["__device__", "__global__", "__constant__", "__shared__", "__managed__"];

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// True if `word` stands in `text` and no letter stands before it, nor behind it if it `ends` there.
fn mentions(text: &str, word: &str, ends: bool) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let bytes = text.as_bytes();
        let before = at == 0 || !is_word(bytes[at - 1]);
        let after = !ends || bytes.get(at + word.len()).is_none_or(|b| !is_word(*b));
        before && after
    })
}

/// The text with comments, literals and preprocessor lines blanked, byte for byte.
fn code_only(source: &str) -> Vec<u8> {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let mut line_is_blank = true;
    let blank = |out: &mut [u8]| out.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest[0] {
            b'#' if line_is_blank => directive_length(rest),
            b'/' if rest.starts_with(b"//") => rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => {
                rest.windows(2).skip(2).position(|w| w == b"*/").map_or(rest.len(), |i| i + 4)
            }
            b'"' => literal_length(rest, b'"'),
            // A quote behind a digit separates digits.
            b'\'' if at == 0 || !is_word(bytes[at - 1]) => literal_length(rest, b'\''),
            _ => 0,
        };
        if length > 0 {
            blank(&mut out[at..at + length]);
            at += length;
        } else {
            line_is_blank = rest[0] == b'\n' || line_is_blank && rest[0].is_ascii_whitespace();
            at += 1;
        }
    }
    out
}

/// A preprocessor directive, with the lines it goes on in.
fn directive_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && (rest[at] != b'\n' || rest[..at].trim_ascii_end().ends_with(b"\\")) {
        at += 1;
    }
    at
}

fn literal_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote && rest[at] != b'\n' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A function, class or declaration at namespace level.
struct Item {
    start: usize,
    end: usize,
    /// What it is called, if it is a function.
    name: Option<String>,
    is_host: bool,
}

/// Name before the first bracket of a function's head.
fn function_name(head: &str) -> Option<String> {
    let before = head[..head.find('(')?].trim_end();
    let start = before.bytes().rposition(|b| !is_word(b)).map_or(0, |i| i + 1);
    (start < before.len()).then(|| before[start..].to_owned())
}

fn is_host(text: &str, name: Option<&str>) -> bool {
    if DEVICE_WORDS.iter().any(|word| mentions(text, word, true)) {
        return false;
    }
    let std_name = |word: &str| text.contains(&format!("std::{word}"));
    name == Some("main")
        || text.contains("<<<")
        || mentions(text, "__host__", true)
        || mentions(text, "throw", true)
        || HOST_WORDS.iter().any(|word| mentions(text, word, false))
        || HOST_STD.iter().any(|word| std_name(word))
}

/// Index behind the bracket that closes the one at `open`.
fn matching(code: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, &byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn items(code: &[u8]) -> Vec<Item> {
    let text = String::from_utf8_lossy(code);
    let slice = |from: usize, to: usize| text.get(from..to).unwrap_or("");
    let mut items = Vec::new();
    let (mut at, mut start) = (0, 0);
    while at < code.len() {
        match code[at] {
            b'{' => {
                let head = slice(start, at);
                let is_transparent =
                    mentions(head, "namespace", true) || (mentions(head, "extern", true) && !head.contains('('));
                if is_transparent {
                    (at, start) = (at + 1, at + 1);
                    continue;
                }
                let mut end = matching(code, at);
                // A class or an initialised variable ends with a semicolon of its own.
                let is_function = head.contains('(') && !head.contains('=');
                if !is_function {
                    end = code[end..].iter().position(|&b| b == b';').map_or(code.len(), |i| end + i + 1);
                }
                let name = if is_function { function_name(head) } else { None };
                let is_host = is_host(slice(start, end), name.as_deref());
                items.push(Item { start, end, name, is_host });
                (at, start) = (end, end);
            }
            b';' => {
                let is_host = is_host(slice(start, at), None);
                items.push(Item { start, end: at + 1, name: None, is_host });
                (at, start) = (at + 1, at + 1);
            }
            b'}' => (at, start) = (at + 1, at + 1),
            _ => at += 1,
        }
    }
    items
}

/// The text without its host code; what is left keeps its line numbers.
pub(crate) fn strip(source: &str) -> String {
    let code = code_only(source);
    if code.len() != source.len() {
        return source.to_owned();
    }
    let mut items = items(&code);
    let text = String::from_utf8_lossy(&code).into_owned();
    loop {
        let gone: Vec<String> = items.iter().filter(|i| i.is_host).filter_map(|i| i.name.clone()).collect();
        let mut changed = false;
        for item in items.iter_mut().filter(|i| !i.is_host) {
            let body = text.get(item.start..item.end).unwrap_or("");
            let is_device = DEVICE_WORDS.iter().any(|word| mentions(body, word, true));
            if !is_device && gone.iter().any(|name| mentions(body, name, true)) {
                item.is_host = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut out = source.as_bytes().to_vec();
    for item in items.iter().filter(|i| i.is_host) {
        for at in item.start..item.end {
            // Directives inside stay: a condition may begin here and end elsewhere.
            if code[at] != b'\n' && code[at] != b' ' {
                out[at] = b' ';
            }
        }
        blank_literals(&mut out, &code, item);
    }
    String::from_utf8(out).unwrap_or_else(|_| source.to_owned())
}

/// Comments and literals of an item go too, or a quote would open and never close; directives stay.
fn blank_literals(out: &mut [u8], code: &[u8], item: &Item) {
    let mut line_start = item.start;
    while line_start < item.end {
        let line_end = out[line_start..item.end].iter().position(|&b| b == b'\n').map_or(item.end, |i| line_start + i);
        let is_directive = out[line_start..line_end].trim_ascii_start().starts_with(b"#");
        if !is_directive {
            for at in line_start..line_end {
                if code[at] == b' ' {
                    out[at] = b' ';
                }
            }
        }
        line_start = line_end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn host_functions_go_and_lines_stay() {
        let source = "#include <vector>\n__device__ int f(int x) { return x; } // cudaMalloc\nnamespace n {\n\
            template <int N> void launch(float* p) {\n  k<N><<<1, 2>>>(p); // \" {\n}\n\
            template <int N> __global__ void k(float* p) { p[0] = '{' + N; }\n}\nusing n::launch;\n\
            std::vector<int> v(3);\nstruct Pair { int a, b; };\nint helper() { launch<3>(0); return 1; }\n\
            constexpr int seven() { return 7; }\nint main() {\n  return helper();\n}\n";
        let left = strip(source);
        assert_eq!(left.lines().count(), source.lines().count());
        for kept in ["f(int x)", "__global__ void k", "struct Pair", "seven()", "namespace n {", "#include <vector>"] {
            assert!(left.contains(kept), "{kept}\n{left}");
        }
        for gone in ["<<<", "std::vector", "main", "helper", "using n::launch"] {
            assert!(!left.contains(gone), "{gone}\n{left}");
        }
    }

    #[test]
    fn any_text_survives() {
        for text in ["", "{", "}", "\"", "/*", "'", "#", "a(){", "\u{e9}'{", "#\\", ";;;}}{{"] {
            assert_eq!(strip(text).len(), text.len());
        }
    }
}
