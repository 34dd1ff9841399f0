//! `tokenizer.json` with the two files beside it that name marks, as a model folder has them.

#![no_main]

use enel_fuzz::{bounded, file, folder, parts};
use enel_text::Tokenizer;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    enel_fuzz::allow_caught_panics();
    let [tokenizer, config, special] = parts(input);
    bounded(input, || {
        file("tokenizer.json", tokenizer);
        file("tokenizer_config.json", if config.is_empty() { b"{}" } else { config });
        file("special_tokens_map.json", if special.is_empty() { b"{}" } else { special });
        let Ok(mut tokenizer) = Tokenizer::from_dir(folder()) else { return };
        let _ = tokenizer.add_mark("<point_patch>");
        let text = "Hello,  world: 12 h\u{e9}\u{1f600}<point_patch>\n";
        let _ = tokenizer.encode(text, true).map(|ids| tokenizer.decode(&ids, true));
        let _ = tokenizer.decode(&[0, 1, 2, u32::MAX], false);
        let _ = (tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id());
    });
});
