//! Which weights learn? Name patterns, and for the embedding table perhaps only some rows.

/// Rows of the embedding table that learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbeddingRows {
    /// All.
    All,
    /// Those of these tokens.
    Only(Vec<i32>),
}

/// Small factors beside fixed matrices: `y = W x + (alpha / rank) B A x`, where A and B learn.
///
/// **Source** Hu et al. 2021, arXiv:2106.09685, section 4.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters {
    /// Patterns of names of matrices, in which `*` is any text.
    pub patterns: Vec<String>,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What the product is multiplied by, times the rank.
    pub alpha: f64,
}

/// How the name of the factor `A: [rank, in]` ends, in the place of `.weight`.
pub const ADAPTER_A: &str = ".lora_A.weight";
/// How the name of the factor `B: [out, rank]` ends.
pub const ADAPTER_B: &str = ".lora_B.weight";

impl Adapters {
    /// The names of both factors of the matrix `name`, if it has any.
    pub fn of(&self, name: &str) -> Option<[String; 2]> {
        let stem = name.strip_suffix(".weight")?;
        let has = self.patterns.iter().any(|pattern| fits(pattern, name));
        has.then(|| [ADAPTER_A, ADAPTER_B].map(|end| format!("{stem}{end}")))
    }

    /// What a product of both factors is multiplied by.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// A set of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Trainable {
    /// Patterns of names, in which `*` is any text; a weight learns when one of them fits.
    pub patterns: Vec<String>,
    /// Rows of the embedding table that learn, if it does.
    pub embedding_rows: EmbeddingRows,
    /// Factors that learn beside matrices.
    pub adapters: Option<Adapters>,
}

impl Trainable {
    /// Everything: the second stage.
    pub fn all() -> Trainable {
        Trainable { patterns: vec!["*".to_owned()], embedding_rows: EmbeddingRows::All, adapters: None }
    }

    /// The first stage: token embedding, projector, heads, the first `n_layers` of the decoder, and the embeddings of
    /// the marks around a cloud.
    ///
    /// **Source** arXiv 2502.09620 v4, appendix A.2, and the released script (`tune_layer 4`).
    pub fn first_stage(n_layers: usize, marks: [i32; 2]) -> Trainable {
        let fixed = [
            "model.point_backbone.*",
            "model.point_proj.*",
            "model.mask_token",
            "model.pos_embed.*",
            "*_predict_head.*",
            "model.embed_tokens.weight",
        ];
        let layers = (0..n_layers).map(|layer| format!("model.layers.{layer}.*"));
        Trainable {
            patterns: fixed.iter().map(|&name| name.to_owned()).chain(layers).collect(),
            embedding_rows: EmbeddingRows::Only(marks.to_vec()),
            adapters: None,
        }
    }

    /// True when the weight called `name` learns. Running statistics never do.
    pub fn has(&self, name: &str) -> bool {
        let is_factor = [ADAPTER_A, ADAPTER_B].iter().any(|end| name.ends_with(end));
        let learns = self.patterns.iter().any(|pattern| fits(pattern, name));
        learns || (is_factor && self.adapters.is_some())
    }
}

/// `*` in `pattern` is any text, everything else itself.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(left) = name.strip_prefix(start) else { return false };
    (0..=left.len()).filter(|&at| left.is_char_boundary(at)).any(|at| fits(rest, &left[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a*", "ab", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*_head.*", "mae_predict_head.0.bias", true),
            ("model.layers.1.*", "model.layers.10.mlp", false),
            ("model.norm", "model.norm.weight", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn adapters_learn_and_their_matrices_do_not() {
        let adapters = Adapters { patterns: vec!["*_proj.weight".to_owned()], rank: 4, alpha: 8.0 };
        assert_eq!(adapters.of("a.q_proj.weight").unwrap(), ["a.q_proj.lora_A.weight", "a.q_proj.lora_B.weight"]);
        assert_eq!(adapters.of("a.norm.weight"), None);
        let set = Trainable { patterns: vec![], adapters: Some(adapters), ..Trainable::all() };
        assert!(set.has("a.q_proj.lora_A.weight") && !set.has("a.q_proj.weight"));
    }

    #[test]
    fn the_first_stage_leaves_late_layers_and_the_head() {
        let set = Trainable::first_stage(2, [7, 8]);
        assert!(set.has("model.layers.1.mlp.up_proj.weight") && set.has("recon_predict_head.4.bias"));
        assert!(
            !set.has("model.layers.2.mlp.up_proj.weight")
                && !set.has("lm_head.weight")
                && !set.has("model.norm.weight")
        );
    }
}
