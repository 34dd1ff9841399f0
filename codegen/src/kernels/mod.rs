//! Which template serves a Desc, and with which numbers? One file per family.

mod attention;
mod contract;
mod fps;
mod map;
mod operand;
mod reduce;
mod scatter;
mod select;

use crate::error::EmitError;
use crate::unit::Rendered;
use enel_bundle::{Body, Desc};
use std::sync::OnceLock;
use tera::{Context, Tera};

macro_rules! templates {
    ($($name:literal,)+) => {
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../templates/", $name))),)+];
    };
}

templates! {
    "scalar.cuh",
    "kernel.cuh",
    "entry.cuh",
    "accs.cuh",
    "fold.cuh",
    "operand.cuh",
    "contract_grid.cuh",
    "contract_store.cuh",
    "contract_fold.cuh",
    "select.cuh",
    "fps.cuh",
    "contract_tile_f32.cuh",
    "contract_tile_bf16.cuh",
    "mma.cuh",
    "contract_store_bf16.cu.tera",
    "contract_fold_bf16.cu.tera",
    "map.cu.tera",
    "reduce_row.cu.tera",
    "reduce_column.cu.tera",
    "contract_store_f32.cu.tera",
    "contract_fold_f32.cu.tera",
    "contract_vector.cu.tera",
    "attention_tile.cu.tera",
    "attention_tile_bf16.cu.tera",
    "attention_token.cu.tera",
    "fps_registers.cu.tera",
    "fps_shared.cu.tera",
    "fps_recompute.cu.tera",
    "select_stream.cu.tera",
    "select_rounds.cu.tera",
    "scatter_set.cu.tera",
    "scatter_add.cu.tera",
}

/// Writes the kernel that computes `desc`.
///
/// The same Desc and name give the same text. `name` ends up in the entry's name, odd characters replaced.
///
/// # Errors
/// [`EmitError`] when the Desc is not well formed or its kernel would not fit a block.
pub fn render(name: &str, desc: &Desc) -> Result<Rendered, EmitError> {
    match &desc.body {
        Body::Map(body) => map::render(name, desc, body),
        Body::Reduce(body) => reduce::render(name, desc, body),
        Body::Contract(body) => contract::render(name, desc, body),
        Body::Attention(body) => attention::render(name, desc, body),
        Body::Fps(body) => fps::render(name, desc, body),
        Body::Knn(body) => select::render_knn(name, desc, body),
        Body::TopK(body) => select::render_top_k(name, desc, body),
        Body::Scatter(body) => scatter::render(name, desc, body),
    }
}

/// Fills the template called `name`.
pub(crate) fn fill(name: &'static str, context: &Context) -> Result<String, EmitError> {
    static ENGINE: OnceLock<Result<Tera, String>> = OnceLock::new();
    let failed = |source: tera::Error| EmitError::Template { template: name, source: Box::new(source) };
    let engine = ENGINE.get_or_init(|| {
        let mut engine = Tera::new();
        engine.add_raw_templates(TEMPLATES.iter().copied()).map_err(|e| e.to_string())?;
        Ok(engine)
    });
    match engine {
        Ok(engine) => engine.render(name, context).map_err(failed),
        Err(message) => Err(failed(tera::Error::message(message))),
    }
}
