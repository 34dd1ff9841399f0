//! `config.json`, of Hugging Face's form and ours: what is accepted is written to what is accepted alike.

#![no_main]

use std::path::Path;

use enel_fuzz::bounded;
use enel_io::config::LlamaConfig;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let path = Path::new("config.json");
    bounded(input, || {
        let Ok(config) = LlamaConfig::from_bytes(input, path) else { return };
        assert!(config.head_size() * config.num_attention_heads > 0 && config.n_kv_heads() > 0);
        if let Some(point) = &config.point_backbone_config {
            assert_eq!(point.centres().len(), point.num_stages);
            assert!(point.n_tokens() > 1 && point.output_dim() > 0);
        }
        let written = serde_json::to_vec(&config).expect("a config is JSON");
        assert_eq!(LlamaConfig::from_bytes(&written, path).expect("a config that is written is read"), config);
    });
});
