//! Which parts of a CUDA file are for the host? They are blanked out: NVRTC takes device code only.
//!
//! At namespace level it looks at each function, class and declaration, and blanks those without `__device__` or
//! `__global__` that name something only a host has, or call what was blanked. What that leaves, `refuse` finds by what
//! the compiler says. Lines stay where they are.

use std::ops::Range;

use crate::scan::{Item, code_only, directive_length, is_device, items, mentions};

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

fn is_host(text: &str, name: Option<&str>) -> bool {
    if is_device(text) {
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

/// The text without its host code; what is left keeps its line numbers.
pub(crate) fn strip(source: &str) -> String {
    let code = code_only(source);
    let text = String::from_utf8_lossy(&code).into_owned();
    let body = |item: &Item| text.get(item.start..item.end).unwrap_or("");
    let (mut host, mut rest): (Vec<Item>, Vec<Item>) =
        items(&code).into_iter().partition(|item| is_host(body(item), item.name.as_deref()));
    loop {
        let names: Vec<&str> = host.iter().filter(|i| i.is_function).filter_map(|i| i.name.as_deref()).collect();
        let calls = |item: &Item| !is_device(body(item)) && names.iter().any(|name| mentions(body(item), name, true));
        let (gone, kept): (Vec<Item>, Vec<Item>) = rest.into_iter().partition(calls);
        rest = kept;
        if gone.is_empty() {
            break;
        }
        host.extend(gone);
    }
    let ranges: Vec<Range<usize>> = host.iter().map(|item| item.start..item.end).collect();
    blank(source, &code, &ranges)
}

/// The text with these ranges blanked, all but their directives.
pub(crate) fn blank(source: &str, code: &[u8], ranges: &[Range<usize>]) -> String {
    let mut out = source.as_bytes().to_vec();
    for range in ranges {
        for at in range.clone() {
            // Directives inside stay: a condition may begin here and end elsewhere.
            if code[at] != b'\n' && code[at] != b' ' {
                out[at] = b' ';
            }
        }
        blank_literals(&mut out, code, range);
    }
    String::from_utf8(out).unwrap_or_else(|_| source.to_owned())
}

/// Comments and literals of an item go too, or a quote would open and never close; directives stay.
fn blank_literals(out: &mut [u8], code: &[u8], item: &Range<usize>) {
    let mut at = item.start;
    while at < item.end {
        let line = &out[at..item.end];
        if line.trim_ascii_start().starts_with(b"#") {
            let indent = line.len() - line.trim_ascii_start().len();
            at += indent + directive_length(&line[indent..]);
        }
        let line_end = out[at..item.end].iter().position(|&b| b == b'\n').map_or(item.end, |i| at + i);
        for i in at..line_end {
            if code[i] == b' ' {
                out[i] = b' ';
            }
        }
        at = line_end + 1;
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
    fn what_stands_before_host_code_stays() {
        let source = "#define ADD(a, b) \\\n  (a + b)\nint main() { return 0; }\nvoid show(int n = 3) { std::cout << n; }\n\
            __device__ bool operator==(A a, B b) { return true; }\nint seven = 7;\nconst char* t = R\"x({)x\";\nint main2();\n";
        let left = strip(source);
        for kept in ["(a + b)", "operator==", "seven", "R\"x({)x\"", "main2"] {
            assert!(left.contains(kept), "{kept}\n{left}");
        }
        assert!(!left.contains("show") && !left.contains("main("), "{left}");
    }

    #[test]
    fn any_text_survives() {
        for text in [
            "template<",
            "template<(",
            "R\"",
            "R\"a(",
            "f(){},{",
            "struct a{struct b{",
            "operator(",
            "a::b(){}",
            "alignas",
            "é(){}",
            "",
            "{",
            "}",
            "\"",
            "/*",
            "'",
            "#",
            "a(){",
            "\u{e9}'{",
            "#\\",
            ";;;}}{{",
        ] {
            assert_eq!(strip(text).len(), text.len());
        }
    }
}
