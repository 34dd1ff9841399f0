//! Does a damaged PTX text ever do worse than an error?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::fixture;
use enel_emulator::{Arg, Fill, Launch, MapElement, Memory, Module, Options, Swizzle, TensorMap, launch};
use proptest::prelude::*;

/// Whatever parses must also run without a panic: an error or an end are both fine.
fn survive(text: &str) {
    let Ok(module) = Module::parse(text) else { return };
    let names: Vec<String> = module.entries().map(str::to_owned).collect();
    let options = Options { max_instructions: Some(20_000), seed: text.len() as u64 % 3, ..Options::default() };
    for entry in &names {
        let params = module.entry(entry).map(|e| e.params.clone()).unwrap_or_default();
        // Pointers are valid, so that damaged code gets as far as it can.
        let mut memory = Memory::new();
        let mut args = Vec::new();
        for param in &params {
            args.push(match param.bytes {
                8 => {
                    let address = memory.alloc(4096).unwrap();
                    memory.fill(address, 4096, 0).unwrap();
                    Arg::U64(address)
                }
                4 => Arg::U32(17),
                128 => Arg::Bytes(tensor_map(&mut memory)),
                n => Arg::Bytes(vec![0; n as usize]),
            });
        }
        let what = Launch {
            entry,
            grid: [4, 1, 1],
            block: [160, 1, 1],
            cluster: None,
            dynamic_smem_bytes: 32768,
            args: &args,
        };
        let _ = launch(&module, &mut memory, &what, &options);
    }
}

/// A map that fits the copies of the fixtures.
fn tensor_map(memory: &mut Memory) -> Vec<u8> {
    let address = memory.alloc(65536).unwrap();
    memory.fill(address, 65536, 0).unwrap();
    let map = TensorMap {
        address,
        element: MapElement::Bf16,
        dims: vec![128, 200],
        strides_bytes: vec![256],
        box_dims: vec![64, 64],
        elem_strides: vec![1, 1],
        swizzle: Swizzle::B128,
        fill: Fill::Zeros,
    };
    map.encode().unwrap().to_vec()
}

fn texts() -> Vec<String> {
    ["basic", "warp", "tensor", "math", "language", "hopper"].iter().map(|name| fixture(name)).collect()
}

/// One kernel of a text, so that damage hits code rather than tables.
fn excerpt(text: &str, at: usize) -> String {
    let starts: Vec<usize> = text.match_indices(".visible .entry").map(|(i, _)| i).collect();
    let i = at % starts.len();
    let end = starts.get(i + 1).copied().unwrap_or(text.find(".file").unwrap_or(text.len()));
    format!(".version 9.0\n.target sm_80\n.address_size 64\n{}", &text[starts[i]..end.max(starts[i])])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncated_text(which in 0usize..6, kernel in 0usize..16, cut in 0.0f64..1.0) {
        let text = excerpt(&texts()[which], kernel);
        let cut = (text.len() as f64 * cut) as usize;
        prop_assume!(text.is_char_boundary(cut));
        survive(&text[..cut]);
        survive(&format!("{}\n}}", &text[..cut]));
    }

    #[test]
    fn shuffled_lines(which in 0usize..6, kernel in 0usize..16, swaps in prop::collection::vec((any::<u32>(), any::<u32>()), 1..6)) {
        let text = excerpt(&texts()[which], kernel);
        let mut lines: Vec<&str> = text.lines().collect();
        let n = lines.len();
        for (a, b) in swaps {
            lines.swap(a as usize % n, b as usize % n);
        }
        survive(&lines.join("\n"));
    }

    #[test]
    fn lost_and_doubled_lines(which in 0usize..6, kernel in 0usize..16, at in any::<u32>(), double in any::<bool>()) {
        let text = excerpt(&texts()[which], kernel);
        let mut lines: Vec<&str> = text.lines().collect();
        let at = at as usize % lines.len();
        if double { lines.insert(at, lines[at]) } else { lines.remove(at); }
        survive(&lines.join("\n"));
    }

    #[test]
    fn changed_bytes(which in 0usize..6, kernel in 0usize..16, edits in prop::collection::vec((any::<u32>(), 32u8..127), 1..8)) {
        let mut text = excerpt(&texts()[which], kernel).into_bytes();
        let n = text.len();
        for (at, byte) in edits {
            text[at as usize % n] = byte;
        }
        survive(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn numbers_out_of_range(which in 0usize..6, kernel in 0usize..16, at in any::<u32>(), value in any::<i64>()) {
        // A number of an instruction becomes any other: sizes, counts, descriptors, offsets, immediates.
        let text = excerpt(&texts()[which], kernel);
        let is_digit = |i: &usize| {
            let bytes = text.as_bytes();
            bytes[*i].is_ascii_digit() && !bytes[*i - 1].is_ascii_alphanumeric() && !b"%.$_".contains(&bytes[*i - 1])
        };
        let starts: Vec<usize> = (1..text.len()).filter(is_digit).collect();
        prop_assume!(!starts.is_empty());
        let start = starts[at as usize % starts.len()];
        let end = start + text[start..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(0);
        for value in [value, value % 64, value >> 40] {
            survive(&format!("{}{value}{}", &text[..start], &text[end..]));
        }
    }

    #[test]
    fn any_text_at_all(text in "\\PC{0,200}") {
        survive(&text);
        survive(&format!(".version 9.0\n.visible .entry k() {{ {text} }}"));
    }
}
