//! SentencePiece models: whatever parses is written to what parses alike, and cuts any text.

#![no_main]

use enel_fuzz::bounded;
use enel_text::Tokenizer;
use enel_text::spm::SpmModel;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        let Ok(model) = SpmModel::parse(input) else { return };
        let again = SpmModel::parse(&model.to_bytes()).expect("a model that is written is read");
        assert_eq!(again.pieces(), model.pieces());
        let mut tokenizer = Tokenizer::from_spm(model);
        tokenizer.add_mark("<point_patch>").expect("pieces take every mark");
        let text = "Hello,  world: 12 h\u{e9}\u{1f600}<point_patch>\n";
        let ids = tokenizer.encode(text, true).expect("pieces cut every text");
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        tokenizer.decode(&ids, true).expect("pieces spell every id");
        tokenizer.decode(&[0, 1, 2, u32::MAX], false).expect("pieces spell every id");
    });
});
