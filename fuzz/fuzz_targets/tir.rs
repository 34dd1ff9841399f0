//! Graphs in text form: whatever parses prints to a text of the same graph, and is verified without a panic.

#![no_main]

use enel_fuzz::bounded;
use enel_ir::{parse, verify};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    bounded(input, || {
        let Ok(graph) = parse(text) else { return };
        let printed = graph.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{error}:\n{printed}"));
        assert_eq!(again, graph, "{printed}");
        let _ = verify(&graph).map(drop);
    });
});
