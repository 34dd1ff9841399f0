//! Which ENEL is meant? Widths, counts and switches of the token embedding and the decoder.
//!
//! Law: a config is plain data; [`PointConfig::check`] and [`LlamaConfig::check`] refuse what no graph can be built
//! from, so builders index and divide freely afterwards. Read next: `presets` for the named ones.

use enel_types::{DType, Dim, DimError, Symbol, Symbols};
use serde::{Deserialize, Serialize};

/// A config no graph can be built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A count or width that must be positive is zero.
    #[error("{field} is 0, expected at least 1")]
    Zero {
        /// Path of the field.
        field: &'static str,
    },
    /// One number must divide another.
    #[error("{field} = {value} is no multiple of {of} = {divisor}")]
    Multiple {
        /// Path of the field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What it must be a multiple of.
        of: &'static str,
        /// The value of that.
        divisor: usize,
    },
    /// A stage has fewer source points than it takes centres or neighbours.
    #[error("stage {stage} takes {need} {what} of {have} points")]
    TooFewPoints {
        /// Stage, from 0.
        stage: usize,
        /// `centres` or `neighbours`.
        what: &'static str,
        /// How many it takes.
        need: usize,
        /// How many there are at least.
        have: usize,
    },
    /// A point needs at least x, y and z.
    #[error("point.point_dims is {point_dims}, expected at least the 3 coordinates")]
    NoCoordinates {
        /// Channels of a point.
        point_dims: usize,
    },
    /// A number that has to be finite and positive.
    #[error("{field} = {value} is not a positive number")]
    Number {
        /// Path of the field.
        field: &'static str,
        /// Its value, as text.
        value: String,
    },
    /// Masking that leaves no token seen, or none masked.
    #[error("objective.masked.ratio = {value} masks none or all of {tokens} tokens")]
    Ratio {
        /// Its value, as text.
        value: String,
        /// Tokens of a cloud.
        tokens: usize,
    },
    /// A layer the decoder does not have.
    #[error("layer {layer} of a tap is none of 1..={layers}")]
    Layer {
        /// Layer, from 1.
        layer: usize,
        /// Layers there are.
        layers: usize,
    },
    /// A value beyond what any graph can use.
    #[error("{field} = {value} is above the limit {limit}")]
    TooLarge {
        /// Path of the field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// Largest value allowed.
        limit: usize,
    },
}

/// Widths and counts above this are refused; it keeps every product of three of them inside 64 bits.
const MAX_COUNT: usize = 1 << 20;

/// An extent the host chooses inside bounds, or a constant when both are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Smallest value, at least 1.
    pub min: usize,
    /// Largest value.
    pub max: usize,
    /// Every value is a multiple of this.
    pub multiple: usize,
}

impl Extent {
    /// Always `n`.
    pub const fn fixed(n: usize) -> Extent {
        Extent { min: n, max: n, multiple: 1 }
    }

    /// Any value of `min..=max`.
    pub const fn range(min: usize, max: usize) -> Extent {
        Extent { min, max, multiple: 1 }
    }

    /// A constant for a fixed extent, else a new symbol called `name`.
    ///
    /// # Errors
    /// [`DimError`] for bounds no symbol may have.
    pub fn declare(self, name: &str, symbols: &mut Symbols) -> Result<Dim, DimError> {
        let bound = |n: usize| i64::try_from(n).map_err(|_| DimError::BadBounds(name.to_owned()));
        let (min, max, multiple) = (bound(self.min)?, bound(self.max)?, bound(self.multiple)?);
        if min == max && min >= 1 {
            return Ok(Dim::constant(min));
        }
        Ok(Dim::sym(symbols.add(Symbol { name: name.to_owned(), min, max, multiple })?))
    }
}

/// Over which clouds the two spreads of a stage are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaMode {
    /// Each cloud has its own, so batch-mates do not matter.
    PerCloud,
    /// One for the whole batch, as the released code has it.
    Batch,
}

/// How the neighbours of a centre become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The largest of each channel.
    Max,
    /// The largest plus the mean.
    MaxMean,
}

/// The token embedding and its projector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointConfig {
    /// Points of a cloud.
    pub n_points: Extent,
    /// Channels of a point; the first three are x, y, z.
    pub point_dims: usize,
    /// Twice the centres of the first stage; stage `s` keeps `input_points >> (s + 1)`.
    pub input_points: usize,
    /// Channels of the raw embedding; each stage doubles them.
    pub embed_dim: usize,
    /// Neighbours of a centre, itself included.
    pub group_size: usize,
    /// Number of stages.
    pub num_stages: usize,
    /// Inner widths of the projector.
    pub projection_hidden_dim: Vec<usize>,
    /// Over which clouds spreads are taken.
    pub sigma: SigmaMode,
    /// How neighbours become one vector.
    pub pooling: Pooling,
    /// Base of the position code's wavelengths; 1 makes all equal.
    pub pose_alpha: f64,
    /// Factor on coordinates in the position code.
    pub pose_beta: f64,
    /// Added to variances in batch normalisation.
    pub bn_eps: f64,
    /// Whether a learned token comes before the point tokens.
    pub class_token: bool,
}

impl PointConfig {
    /// Centres stage `stage` keeps.
    pub fn centres(&self, stage: usize) -> usize {
        self.input_points.checked_shr(stage as u32 + 1).unwrap_or(0)
    }

    /// Channels after stage `stage`.
    pub fn width(&self, stage: usize) -> usize {
        doubled(self.embed_dim, stage.saturating_add(1))
    }

    /// Channels of a point token.
    pub fn out_dim(&self) -> usize {
        doubled(self.embed_dim, self.num_stages)
    }

    /// Tokens of one cloud, the class token included.
    pub fn tokens_per_cloud(&self) -> usize {
        self.num_stages.checked_sub(1).map_or(0, |last| self.centres(last)) + usize::from(self.class_token)
    }

    /// Trainable parameters of the token embedding, without the projector; of a checked config.
    pub fn backbone_params(&self) -> usize {
        let raw = self.embed_dim * self.point_dims + 2 * self.embed_dim;
        let class = if self.class_token { self.out_dim() } else { 0 };
        let stage = |s: usize| {
            let d = self.width(s);
            let linear1 = d * d + 2 * d;
            let net1 = d * (d / 2) + 3 * (d / 2);
            let net2 = (d / 2) * d + 3 * d;
            linear1 + net1 + net2 + 2 * d
        };
        raw + class + (0..self.num_stages).map(stage).sum::<usize>()
    }

    /// Trainable parameters of the projector to a decoder of width `hidden_size`; of a checked config.
    pub fn projector_params(&self, hidden_size: usize) -> usize {
        self.projection_widths(hidden_size).windows(2).map(|w| w[0] * w[1] + w[1]).sum()
    }

    /// Widths along the projector, input and output included.
    pub fn projection_widths(&self, hidden_size: usize) -> Vec<usize> {
        let mut widths = vec![self.out_dim()];
        widths.extend(&self.projection_hidden_dim);
        widths.push(hidden_size);
        widths
    }

    /// Refuses what no graph can be built from.
    ///
    /// # Errors
    /// The first fault as [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        positive("point.input_points", self.input_points)?;
        positive("point.embed_dim", self.embed_dim)?;
        positive("point.group_size", self.group_size)?;
        positive("point.num_stages", self.num_stages)?;
        positive("point.n_points.min", self.n_points.min)?;
        positive("point.point_dims", self.point_dims)?;
        for &width in &self.projection_hidden_dim {
            positive("point.projection_hidden_dim", width)?;
        }
        at_most("point.num_stages", self.num_stages, 16)?;
        // The position code has a wavelength for every six channels, in one constant of at most 4096 elements.
        at_most("point.embed_dim << num_stages", self.out_dim(), 6 * 4096)?;
        number("point.pose_alpha", self.pose_alpha)?;
        number("point.pose_beta", self.pose_beta)?;
        number("point.bn_eps", self.bn_eps)?;
        if self.point_dims < 3 {
            return Err(ConfigError::NoCoordinates { point_dims: self.point_dims });
        }
        multiple("point.embed_dim", self.embed_dim, "the three axes of the position code", 3)?;
        let mut have = self.n_points.min;
        for stage in 0..self.num_stages {
            let (centres, need) = (self.centres(stage), self.group_size);
            positive("point.input_points >> (stage + 1)", centres)?;
            if centres > have {
                return Err(ConfigError::TooFewPoints { stage, what: "centres", need: centres, have });
            }
            if need > have {
                return Err(ConfigError::TooFewPoints { stage, what: "neighbours", need, have });
            }
            have = centres;
        }
        Ok(())
    }
}

/// A LLaMA decoder, in the words of its `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels inside a feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Added to mean squares.
    pub rms_norm_eps: f64,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Whether the embedding table is also the output projection.
    pub tie_word_embeddings: bool,
}

impl LlamaConfig {
    /// Channels of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size.checked_div(self.num_attention_heads).unwrap_or(0)
    }

    /// Trainable parameters of a checked config.
    pub fn params(&self) -> usize {
        let (c, f) = (self.hidden_size, self.intermediate_size);
        let kv = self.num_key_value_heads * self.head_dim();
        let layer = 2 * c * c + 2 * c * kv + 3 * c * f + 2 * c;
        let table = self.vocab_size * c;
        let head = if self.tie_word_embeddings { 0 } else { table };
        table + head + self.num_hidden_layers * layer + c
    }

    /// Refuses what no graph can be built from.
    ///
    /// # Errors
    /// The first fault as [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("llama.hidden_size", self.hidden_size),
            ("llama.intermediate_size", self.intermediate_size),
            ("llama.num_hidden_layers", self.num_hidden_layers),
            ("llama.num_attention_heads", self.num_attention_heads),
            ("llama.num_key_value_heads", self.num_key_value_heads),
            ("llama.vocab_size", self.vocab_size),
        ];
        for (field, value) in counts {
            positive(field, value)?;
        }
        // A layer costs about twenty nodes, so the layer count bounds the size of a graph.
        at_most("llama.num_hidden_layers", self.num_hidden_layers, 4096)?;
        // Half a head's channels are the rotary table, a constant of at most 4096 elements.
        let heads = self.num_attention_heads;
        multiple("llama.hidden_size", self.hidden_size, "2 * llama.num_attention_heads", 2 * heads)?;
        at_most("llama.hidden_size / llama.num_attention_heads", self.head_dim(), 8192)?;
        multiple("llama.num_attention_heads", heads, "llama.num_key_value_heads", self.num_key_value_heads)?;
        number("llama.rms_norm_eps", self.rms_norm_eps)?;
        number("llama.rope_theta", self.rope_theta)
    }
}

/// A whole ENEL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnelConfig {
    /// Token embedding and projector.
    pub point: PointConfig,
    /// Decoder.
    pub llama: LlamaConfig,
}

impl EnelConfig {
    /// Trainable parameters of a checked config; heads used in training only are not counted.
    pub fn params(&self) -> usize {
        self.point.backbone_params() + self.point.projector_params(self.llama.hidden_size) + self.llama.params()
    }

    /// Refuses what no graph can be built from.
    ///
    /// # Errors
    /// The first fault as [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.point.check()?;
        self.llama.check()
    }
}

/// Bounds of the extents a compiled model takes at run time, and the storage type of its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Clouds of a call: `B`.
    pub clouds: Extent,
    /// Tokens of a call, all segments together: `T`.
    pub tokens: Extent,
    /// Rows of the key and value cache, all samples together: `S`.
    pub slots: Extent,
    /// Rows logits are wanted for: `L`.
    pub rows: Extent,
    /// How matrices, embeddings, activations and caches are stored; vectors and geometry are always f32.
    pub storage: DType,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            clouds: Extent::range(1, 64),
            tokens: Extent::range(1, 32_768),
            slots: Extent::range(1, 131_072),
            rows: Extent::range(1, 64),
            storage: DType::F32,
        }
    }
}

/// `n` doubled `times` times, as far as that goes.
fn doubled(n: usize, times: usize) -> usize {
    let factor = u32::try_from(times).ok().and_then(|t| 1usize.checked_shl(t));
    n.saturating_mul(factor.unwrap_or(usize::MAX))
}

fn positive(field: &'static str, value: usize) -> Result<(), ConfigError> {
    match value {
        0 => Err(ConfigError::Zero { field }),
        _ => at_most(field, value, MAX_COUNT),
    }
}

fn at_most(field: &'static str, value: usize, limit: usize) -> Result<(), ConfigError> {
    if value > limit { Err(ConfigError::TooLarge { field, value, limit }) } else { Ok(()) }
}

fn multiple(field: &'static str, value: usize, of: &'static str, divisor: usize) -> Result<(), ConfigError> {
    if value.is_multiple_of(divisor) { Ok(()) } else { Err(ConfigError::Multiple { field, value, of, divisor }) }
}

fn number(field: &'static str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ConfigError::Number { field, value: value.to_string() })
}
