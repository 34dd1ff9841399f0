//! GGUF files: the head, every encoding, and the way of a LLaMA into a model folder.

#![no_main]

use enel_fuzz::{bounded, file, folder, read_weights};
use enel_io::config::LlamaConfig;
use enel_io::gguf::{Gguf, GgufModel, GgufVocabulary, VocabularyKind};
use enel_io::{TensorSource, WriteConfig, write_model};
use enel_text::Tokenizer;
use enel_text::export::{self, Vocabulary};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    enel_fuzz::allow_caught_panics();
    bounded(input, || {
        let path = file("m.gguf", input);
        let Ok(gguf) = Gguf::open(&path) else { return };
        for (name, tensor) in gguf.tensors() {
            let values = gguf.to_f32(name).expect("a tensor that is listed is there");
            assert_eq!(values.len(), tensor.shape.iter().product::<usize>(), "{name}");
        }
        if let Ok(vocabulary) = gguf.vocabulary() {
            export(&vocabulary);
        }
        let Ok(model) = GgufModel::open(&path) else { return };
        let config = model.config().to_string();
        LlamaConfig::from_bytes(config.as_bytes(), &path).expect("the config that is made is read");
        for tensor in model.list() {
            let n_bytes = tensor.shape.iter().product::<usize>() * tensor.dtype.bitsize() / 8;
            // Values may be beyond the range of f16.
            assert!(model.bytes(&tensor.name, tensor.dtype).is_none_or(|bytes| bytes.len() == n_bytes));
        }
        if write_model(folder(), &model, &WriteConfig::default(), &mut |_| {}).is_ok() {
            read_weights(folder());
        }
    });
});

fn export(given: &GgufVocabulary) {
    let vocabulary = Vocabulary {
        tokens: &given.tokens,
        kinds: &given.token_kinds,
        bos: given.bos,
        eos: given.eos,
        unknown: given.unknown,
        padding: given.padding,
        add_bos: given.add_bos,
        chat_template: given.chat_template.as_deref(),
    };
    let (name, made) = match &given.kind {
        VocabularyKind::Bpe { pre, merges } => (export::TOKENIZER_JSON, export::bpe_json(&vocabulary, merges, pre)),
        VocabularyKind::Spm { scores } => (export::TOKENIZER_MODEL, export::spm_model(&vocabulary, scores)),
    };
    let _ = export::tokenizer_config(&vocabulary, name);
    let Ok(bytes) = made else { return };
    let tokenizer = Tokenizer::from_file(&file(name, &bytes)).expect("the tokenizer that is made is read");
    let _ = tokenizer.encode("Hello, world: 12 h\u{e9}\u{1f600}", true).map(|ids| tokenizer.decode(&ids, false));
}
