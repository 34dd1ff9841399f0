//! What did the author call what PTX calls `_Z5scalePfi`? Names in C++ instead of mangled ones.

use cpp_demangle::{BorrowedSymbol, DemangleOptions};

/// Longest mangled name that is looked at, in bytes.
const MAX_NAME: usize = 4096;

/// A text with every mangled name in it replaced by the name in C++, without parameters, and files by their own names.
pub fn readable(text: &str) -> String {
    // The compiler is given texts under this folder.
    replaced(&text.replace("/enel/", ""), &DemangleOptions::new().no_params().no_return_type())
}

/// The name in C++ with its parameters, which tell functions of one name apart; other names stay.
pub(crate) fn signature(name: &str) -> String {
    replaced(name, &DemangleOptions::new().no_return_type())
}

fn replaced(text: &str, options: &DemangleOptions) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |i| start + i);
        let word = &rest[start..end];
        out.push_str(&rest[..start]);
        match plain(word, options) {
            Some(name) => out.push_str(&name),
            None => out.push_str(word),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn plain(word: &str, options: &DemangleOptions) -> Option<String> {
    if !word.starts_with("_Z") || word.len() > MAX_NAME {
        return None;
    }
    let (symbol, tail) = BorrowedSymbol::with_tail(word.as_bytes()).ok()?;
    let name = symbol.demangle_with_options(options).ok()?;
    // What follows a name, such as the number of a shared variable, goes with it.
    (tail.is_empty() || tail[0] == b'$' || tail[0] == b'.').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{readable, signature};

    #[test]
    fn mangled_names_are_read_wherever_they_stand() {
        let text = "kernel `_Z5scalePfi`, (`_ZZ5scalePfiE1s` + 4), _Zx, k, `_Z4axpyIfLi4EEvT_PKS0_PS0_`, /enel/a.cu:3, \u{e9}_Z";
        let want = "kernel `scale`, (`scale(float*, int)::s` + 4), _Zx, k, `axpy<float, 4>`, a.cu:3, \u{e9}_Z";
        assert_eq!(readable(text), want);
        assert_eq!(signature("_Z5scalePfi"), "scale(float*, int)");
        assert_eq!(signature("main"), "main");
        readable(&format!("_Z{}", "N".repeat(1 << 16)));
        readable(&format!("_Z{}", "P".repeat(4000)));
    }
}
