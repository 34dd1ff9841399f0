//! What sizes does a model folder's `config.json` state?
//!
//! The keys of Hugging Face LLaMA, and beside them an optional `point_backbone_config` with the released names; a
//! released configuration has `point_backbone` instead, and the sizes of the paper.
//! Law: a configuration that is returned is consistent; unknown keys are left alone.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not JSON, or a key is missing or of another type.
    #[error("cannot use {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// Values that do not fit together.
    #[error("{}: {key} is {value}, expected {expected}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
}

/// Sizes of a LLaMA decoder, by the names of Hugging Face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Channels C.
    pub hidden_size: usize,
    /// Hidden channels F of the gated MLP.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Heads H of the queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values; as many as of queries unless stated.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Channels of one head; C / H unless stated.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Added to the mean square.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary angles.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Rows V of the token table.
    pub vocab_size: usize,
    /// Whether the output layer is the token table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    /// The point embedder, if the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_backbone_config: Option<PointConfig>,
    /// Scaled rotary angles, which are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<serde_json::Value>,
    /// The activation of the MLP, `silu` or refused.
    #[serde(default = "default_act")]
    hidden_act: String,
}

/// Sizes of the point embedder, by the names of the released code where it has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointConfig {
    /// Channels of a point: 6 with colour.
    #[serde(default = "default_point_dims")]
    pub point_dims: usize,
    /// Channels of the raw embedding; doubled by each stage.
    pub embed_dim: usize,
    /// Neighbours k of a centre.
    pub group_size: usize,
    /// Twice the centres of the first stage; each stage halves them.
    pub input_points: usize,
    /// Stages.
    #[serde(default = "default_stages")]
    pub num_stages: usize,
    /// Hidden channels of the projector, between the last stage and the decoder.
    pub projection_hidden_dim: Vec<usize>,
    /// Points of a cloud it was trained on; 8 for each of `input_points` unless stated, as released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_points: Option<usize>,
    /// Whether marks stand around the point tokens.
    #[serde(default = "default_true")]
    pub mm_use_point_start_end: bool,
    /// The mark that is replaced by features.
    #[serde(default = "default_patch")]
    pub default_point_patch_token: String,
    /// The mark before the point tokens.
    #[serde(default = "default_start")]
    pub default_point_start_token: String,
    /// The mark after the point tokens.
    #[serde(default = "default_end")]
    pub default_point_end_token: String,
    /// Ids of the marks, if the file states them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_token_ids: Option<PointTokenIds>,
}

/// Ids of the marks around and for point tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointTokenIds {
    /// Replaced by features.
    pub patch: u32,
    /// Before the point tokens.
    pub start: u32,
    /// After the point tokens.
    pub end: u32,
}

/// Name of the token embedding in released configurations, which leave its sizes to the code.
const RELEASED_BACKBONE: &str = "PointNN";

/// The keys of a released configuration: names of marks at the top, sizes nowhere.
#[derive(Deserialize)]
struct ReleasedPoint {
    point_backbone: Option<String>,
    #[serde(default = "default_true")]
    mm_use_point_start_end: bool,
    #[serde(rename = "DEFAULT_POINT_PATCH_TOKEN", default = "default_patch")]
    patch: String,
    #[serde(rename = "DEFAULT_POINT_START_TOKEN", default = "default_start")]
    start: String,
    #[serde(rename = "DEFAULT_POINT_END_TOKEN", default = "default_end")]
    end: String,
}

impl ReleasedPoint {
    /// **Source** the released configuration file of the token embedding, and arXiv 2502.09620 v4, appendix A.2.
    fn config(self) -> PointConfig {
        PointConfig {
            point_dims: default_point_dims(),
            embed_dim: 288,
            group_size: 81,
            input_points: 1024,
            num_stages: default_stages(),
            projection_hidden_dim: vec![1024, 2048],
            n_points: None,
            mm_use_point_start_end: self.mm_use_point_start_end,
            default_point_patch_token: self.patch,
            default_point_start_token: self.start,
            default_point_end_token: self.end,
            point_token_ids: None,
        }
    }
}

// The defaults of Hugging Face's LLaMA configuration.
fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_positions() -> usize {
    2048
}
fn default_act() -> String {
    "silu".to_owned()
}
// The defaults of the released point embedder.
fn default_point_dims() -> usize {
    6
}
fn default_stages() -> usize {
    3
}
fn default_true() -> bool {
    true
}
fn default_patch() -> String {
    "<point_patch>".to_owned()
}
fn default_start() -> String {
    "<point_start>".to_owned()
}
fn default_end() -> String {
    "<point_end>".to_owned()
}

impl LlamaConfig {
    /// Reads `config.json` of a folder, or the file itself.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the key.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
        let bytes = std::fs::read(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        Self::from_bytes(&bytes, &path)
    }

    /// Reads the bytes of a file; `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let json = |source| ConfigError::Json { path: path.to_owned(), source };
        let mut config: Self = serde_json::from_slice(bytes).map_err(json)?;
        let mut fault = None;
        if config.point_backbone_config.is_none() {
            let released: ReleasedPoint = serde_json::from_slice(bytes).map_err(json)?;
            match released.point_backbone.as_deref() {
                None => {}
                Some(RELEASED_BACKBONE) => config.point_backbone_config = Some(released.config()),
                Some(other) => fault = Some(("point_backbone", other.to_owned(), RELEASED_BACKBONE.to_owned())),
            }
        }
        match fault.or_else(|| config.fault()) {
            None => Ok(config),
            Some((key, value, expected)) => Err(ConfigError::Value { path: path.to_owned(), key, value, expected }),
        }
    }

    /// Heads of keys and values.
    pub fn n_kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Channels D of one head.
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The first value that does not fit: key, value, what was expected.
    fn fault(&self) -> Option<(&'static str, String, String)> {
        let at_least_one = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.n_kv_heads()),
            ("head_dim", self.head_dim.unwrap_or(1)),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((key, value)) = at_least_one.into_iter().find(|&(_, value)| !is_size(value)) {
            return Some((key, value.to_string(), "1 to 2^31".to_owned()));
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.n_kv_heads());
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
            let expected = format!("a multiple of num_attention_heads = {heads}");
            return Some(("hidden_size", self.hidden_size.to_string(), expected));
        }
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads = {heads}");
            return Some(("num_key_value_heads", kv_heads.to_string(), expected));
        }
        if !self.head_size().is_multiple_of(2) {
            return Some(("head_dim", self.head_size().to_string(), "an even number".to_owned()));
        }
        for (key, value) in [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)] {
            if !(value > 0.0 && value.is_finite()) {
                return Some((key, value.to_string(), "a number above 0".to_owned()));
            }
        }
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
            return Some((
                "rope_scaling",
                scaling.to_string(),
                "null: scaled rotary angles are unsupported".to_owned(),
            ));
        }
        if self.hidden_act != "silu" {
            return Some(("hidden_act", self.hidden_act.clone(), "silu, the only one supported".to_owned()));
        }
        self.point_backbone_config.as_ref().and_then(|point| point.fault(self.vocab_size))
    }
}

impl PointConfig {
    /// Centres of each stage, first to last.
    pub fn centres(&self) -> Vec<usize> {
        (1..=self.num_stages).map(|stage| self.input_points >> stage).collect()
    }

    /// Point tokens of one cloud: the last stage's centres and the class token.
    pub fn n_tokens(&self) -> usize {
        self.centres().last().map_or(0, |centres| centres + 1)
    }

    /// Channels of the last stage.
    pub fn output_dim(&self) -> usize {
        self.embed_dim << self.num_stages
    }

    fn fault(&self, vocab_size: usize) -> Option<(&'static str, String, String)> {
        let n_points = self.n_points.unwrap_or(1);
        let sizes = [("embed_dim", self.embed_dim), ("group_size", self.group_size), ("n_points", n_points)];
        if let Some((key, value)) = sizes.into_iter().find(|&(_, value)| !is_size(value)) {
            return Some((key, value.to_string(), "1 to 2^31".to_owned()));
        }
        if self.point_dims < 3 || self.point_dims > 6 {
            return Some(("point_dims", self.point_dims.to_string(), "3 to 6".to_owned()));
        }
        // More stages would need more centres than any cloud has points.
        if self.num_stages == 0 || self.num_stages > 16 {
            return Some(("num_stages", self.num_stages.to_string(), "1 to 16".to_owned()));
        }
        if !is_size(self.input_points) || self.input_points >> self.num_stages == 0 {
            let expected = format!("at least 2^num_stages = {}, at most 2^31", 1 << self.num_stages);
            return Some(("input_points", self.input_points.to_string(), expected));
        }
        if let Some(value) = self.projection_hidden_dim.iter().find(|&&value| !is_size(value)) {
            return Some(("projection_hidden_dim", value.to_string(), "1 to 2^31 each".to_owned()));
        }
        let ids = self.point_token_ids.map(|ids| [ids.patch, ids.start, ids.end]);
        let outside = ids.into_iter().flatten().find(|&id| id as usize >= vocab_size)?;
        Some(("point_token_ids", outside.to_string(), format!("below vocab_size = {vocab_size}")))
    }
}

/// Products of two such sizes fit 64 bits.
fn is_size(value: usize) -> bool {
    (1..=1 << 31).contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICUNA: &str = r#"{"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 32, "rms_norm_eps": 1e-05,
        "tie_word_embeddings": false, "vocab_size": 32000, "rope_scaling": null}"#;

    fn parse(text: &str) -> Result<LlamaConfig, ConfigError> {
        LlamaConfig::from_bytes(text.as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn what_a_file_leaves_out_has_the_defaults_of_llama() {
        let config = parse(VICUNA).unwrap();
        assert_eq!((config.n_kv_heads(), config.head_size()), (32, 128));
        assert_eq!((config.rope_theta, config.rms_norm_eps), (10_000.0, 1e-5));
        assert_eq!(config.max_position_embeddings, 2048);
        assert!(config.point_backbone_config.is_none());
    }

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        // Read with one rounding too many, it ends in 6.
        let text = "1055555555555555555555555555555555555555555555555555555555550";
        let config = parse(&VICUNA.replacen('{', &format!("{{\"rope_theta\": {text},"), 1)).unwrap();
        assert_eq!(config.rope_theta, text.parse::<f64>().unwrap());
        assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn the_paper_s_point_embedder_has_129_tokens() {
        let point = r#""point_backbone_config": {"embed_dim": 288, "group_size": 81, "input_points": 1024,
            "projection_hidden_dim": [1024, 2048], "point_token_ids": {"patch": 32000, "start": 32001, "end": 32002}}"#;
        let text = VICUNA.replace("32000,", "32003,").replacen('{', &format!("{{{point}, "), 1);
        let config = parse(&text).unwrap();
        let point = config.point_backbone_config.as_ref().unwrap();
        assert_eq!(point.centres(), [512, 256, 128]);
        assert_eq!((point.n_tokens(), point.output_dim()), (129, 2304));
        let again = parse(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn a_released_configuration_has_the_paper_s_sizes() {
        let keys = r#""point_backbone": "PointNN", "mm_use_point_start_end": true, "DEFAULT_POINT_END_TOKEN": "<end>""#;
        let text = VICUNA.replace("32000,", "32003,").replacen('{', &format!("{{{keys}, "), 1);
        let point = parse(&text).unwrap().point_backbone_config.unwrap();
        assert_eq!((point.n_tokens(), point.output_dim(), point.group_size), (129, 2304, 81));
        assert_eq!((&*point.default_point_start_token, &*point.default_point_end_token), ("<point_start>", "<end>"));
        let error = parse(&text.replace("PointNN", "PointBERT")).unwrap_err().to_string();
        assert!(error.contains("PointBERT") && error.contains("PointNN"), "{error}");
    }

    #[test]
    fn faults_name_the_key() {
        let rows = [
            ("\"hidden_size\": 4096", "\"hidden_size\": 4097", "hidden_size"),
            ("\"hidden_size\": 4096", "\"hidden_size\": 0", "hidden_size"),
            ("\"hidden_size\": 4096", "\"hidden_size\": 4096, \"num_key_value_heads\": 5", "num_key_value_heads"),
            ("\"hidden_size\": 4096", "\"hidden_size\": 4096, \"num_key_value_heads\": 0", "num_key_value_heads"),
            ("\"hidden_size\": 4096", "\"hidden_size\": 4096, \"head_dim\": 7", "head_dim"),
            ("1e-05", "0", "rms_norm_eps"),
            ("silu", "gelu", "hidden_act"),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}", "rope_scaling"),
            ("\"hidden_size\": 4096,", "", "hidden_size"),
            ("\"hidden_size\": 4096", "\"hidden_size\": \"x\"", "string"),
        ];
        for (from, to, key) in rows {
            let error = parse(&VICUNA.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{to}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn altered_files_never_panic(at in 0usize..400, byte in proptest::prelude::any::<u8>(), cut in 0usize..400) {
            let mut bytes = VICUNA.as_bytes().to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            for bytes in [&bytes[..], &bytes[..cut % len]] {
                if let Ok(config) = LlamaConfig::from_bytes(bytes, Path::new("config.json")) {
                    proptest::prop_assert!(config.head_size() * config.num_attention_heads > 0);
                }
            }
        }
    }
}
