//! Which models have names? Numbers only; each has a source or says that it is a choice of ours.

use crate::config::{EnelConfig, Extent, LlamaConfig, PointConfig, Pooling, SigmaMode};

/// Names [`EnelConfig::preset`] knows.
pub const PRESETS: [&str; 5] = ["tiny", "small", "enel-135m", "enel-7b", "enel-13b"];

/// Tokens ENEL adds to a vocabulary: patch, start and end.
const POINT_TOKENS: usize = 3;

impl PointConfig {
    /// The released sizes: 8192 points of six channels, 512, 256 and 128 centres, 81 neighbours, widths 288 to 2304.
    ///
    /// **Source** arXiv 2502.09620 v4, appendix A.2, and the released configuration.
    pub fn paper() -> PointConfig {
        PointConfig {
            n_points: Extent::fixed(8192),
            point_dims: 6,
            input_points: 1024,
            embed_dim: 288,
            group_size: 81,
            num_stages: 3,
            projection_hidden_dim: vec![1024, 2048],
            sigma: SigmaMode::PerCloud,
            pooling: Pooling::Max,
            pose_alpha: 1.0,
            pose_beta: 1.0,
            bn_eps: 1e-5,
            class_token: true,
        }
    }
}

impl LlamaConfig {
    /// Vicuna 7B v1.1, a LLaMA 7B.
    ///
    /// **Source** its `config.json`.
    pub fn vicuna_7b() -> LlamaConfig {
        LlamaConfig {
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            vocab_size: 32_000,
            tie_word_embeddings: false,
        }
    }

    /// Vicuna 13B v1.1, a LLaMA 13B.
    ///
    /// **Source** its `config.json`.
    pub fn vicuna_13b() -> LlamaConfig {
        LlamaConfig {
            hidden_size: 5120,
            intermediate_size: 13_824,
            num_hidden_layers: 40,
            num_attention_heads: 40,
            num_key_value_heads: 40,
            ..LlamaConfig::vicuna_7b()
        }
    }

    /// SmolLM2-135M: three query heads for each key head, tied embeddings.
    ///
    /// **Source** its `config.json`.
    pub fn smollm2_135m() -> LlamaConfig {
        LlamaConfig {
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            rms_norm_eps: 1e-5,
            rope_theta: 100_000.0,
            vocab_size: 49_152,
            tie_word_embeddings: true,
        }
    }

    /// The text model of the decode and prefill benches; no released weights are meant.
    pub fn llama_110m() -> LlamaConfig {
        LlamaConfig {
            hidden_size: 768,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_key_value_heads: 12,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            vocab_size: 32_000,
            tie_word_embeddings: true,
        }
    }

    fn with_point_tokens(mut self) -> LlamaConfig {
        self.vocab_size += POINT_TOKENS;
        self
    }
}

impl EnelConfig {
    /// The preset called `name`, if there is one.
    pub fn preset(name: &str) -> Option<EnelConfig> {
        match name {
            "tiny" => Some(EnelConfig::tiny()),
            "small" => Some(EnelConfig::small()),
            "enel-135m" => Some(EnelConfig::enel_135m()),
            "enel-7b" => Some(EnelConfig::enel_7b()),
            "enel-13b" => Some(EnelConfig::enel_13b()),
            _ => None,
        }
    }

    /// The size golden values are computed at, with spreads over the batch as the released code takes them.
    pub fn tiny() -> EnelConfig {
        EnelConfig {
            point: PointConfig {
                n_points: Extent::fixed(256),
                input_points: 128,
                embed_dim: 12,
                group_size: 8,
                projection_hidden_dim: vec![40, 48],
                sigma: SigmaMode::Batch,
                ..PointConfig::paper()
            },
            llama: LlamaConfig {
                hidden_size: 64,
                intermediate_size: 128,
                num_hidden_layers: 4,
                num_attention_heads: 4,
                num_key_value_heads: 4,
                vocab_size: 512,
                ..LlamaConfig::vicuna_7b()
            },
        }
    }

    /// The training bench. Feed-forward and projector widths are choices of ours: 8/3 of the stream, and twice it.
    pub fn small() -> EnelConfig {
        EnelConfig {
            point: PointConfig {
                n_points: Extent::fixed(2048),
                embed_dim: 96,
                group_size: 32,
                projection_hidden_dim: vec![768, 768],
                ..PointConfig::paper()
            },
            llama: LlamaConfig {
                hidden_size: 384,
                intermediate_size: 1024,
                num_hidden_layers: 8,
                num_attention_heads: 6,
                num_key_value_heads: 6,
                vocab_size: 8192,
                ..LlamaConfig::llama_110m()
            },
        }
    }

    /// The laptop model: SmolLM2-135M behind an embedder of half the paper's widths, a quarter of its work.
    pub fn enel_135m() -> EnelConfig {
        EnelConfig {
            point: PointConfig { embed_dim: 144, projection_hidden_dim: vec![1024, 1024], ..PointConfig::paper() },
            llama: LlamaConfig::smollm2_135m().with_point_tokens(),
        }
    }

    /// The paper's model on Vicuna 7B.
    pub fn enel_7b() -> EnelConfig {
        EnelConfig { point: PointConfig::paper(), llama: LlamaConfig::vicuna_7b().with_point_tokens() }
    }

    /// The paper's model on Vicuna 13B.
    pub fn enel_13b() -> EnelConfig {
        EnelConfig { point: PointConfig::paper(), llama: LlamaConfig::vicuna_13b().with_point_tokens() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        assert_eq!(PointConfig::paper().backbone_params(), 13_973_472);
        assert_eq!(PointConfig::paper().projector_params(4096), 12_852_224);
        assert_eq!(LlamaConfig::vicuna_7b().params(), 6_738_415_616);
        assert_eq!(LlamaConfig::vicuna_13b().params(), 13_015_864_320);
        assert_eq!(LlamaConfig::smollm2_135m().params(), 134_515_008);
    }

    #[test]
    fn every_preset_is_sound_and_counts_its_tokens() {
        for name in PRESETS {
            let config = EnelConfig::preset(name).unwrap();
            config.check().unwrap();
            assert_eq!(config.point.tokens_per_cloud(), if name == "tiny" { 17 } else { 129 }, "{name}");
        }
        assert_eq!(EnelConfig::preset("enel-1t"), None);
        LlamaConfig::llama_110m().check().unwrap();
    }

    #[test]
    fn configs_without_a_graph_are_refused() {
        let broken = |change: fn(&mut EnelConfig)| {
            let mut config = EnelConfig::tiny();
            change(&mut config);
            config.check().unwrap_err()
        };
        let zero = broken(|c| c.llama.num_attention_heads = 0);
        assert_eq!(zero, ConfigError::Zero { field: "llama.num_attention_heads" });
        assert!(matches!(broken(|c| c.llama.num_key_value_heads = 3), ConfigError::Multiple { divisor: 3, .. }));
        assert!(matches!(broken(|c| c.llama.hidden_size = 66), ConfigError::Multiple { divisor: 8, .. }));
        assert!(matches!(broken(|c| c.point.embed_dim = 16), ConfigError::Multiple { divisor: 3, .. }));
        let few = broken(|c| c.point.group_size = 33);
        assert_eq!(few, ConfigError::TooFewPoints { stage: 2, what: "neighbours", need: 33, have: 32 });
        let few = broken(|c| c.point.n_points = Extent::range(60, 256));
        assert_eq!(few, ConfigError::TooFewPoints { stage: 0, what: "centres", need: 64, have: 60 });
        let deep = broken(|c| c.point.num_stages = 9);
        assert!(matches!(deep, ConfigError::TooFewPoints { stage: 5, what: "neighbours", have: 4, .. }), "{deep}");
        assert!(matches!(broken(|c| c.point.num_stages = 80), ConfigError::TooLarge { .. }));
        assert!(matches!(broken(|c| c.point.num_stages = 0), ConfigError::Zero { .. }));
        assert!(matches!(broken(|c| c.llama.rope_theta = f64::NAN), ConfigError::Number { .. }));
        assert!(matches!(broken(|c| c.llama.vocab_size = usize::MAX), ConfigError::TooLarge { .. }));
    }
}
