//! Which template serves a Desc, and with which numbers? One file per family; `launch` joins parts into a kernel.

mod attention;
mod attention_grad;
mod contract;
mod fps;
mod launch;
mod map;
mod operand;
mod reduce;
mod scatter;
mod select;

use crate::error::EmitError;
use crate::unit::Text;
use enel_bundle::{Body, Desc};
pub use launch::{Rendered, render};
use std::sync::OnceLock;
use tera::{Context, Tera};

macro_rules! templates {
    ($($name:literal,)+) => {
        const TEMPLATES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../templates/", $name))),)+];
    };
}

templates! {
    "scalar.cuh",
    "launch.cu.tera",
    "kernel.cuh",
    "entry.cuh",
    "accs.cuh",
    "fold.cuh",
    "operand.cuh",
    "contract_grid.cuh",
    "contract_results.cuh",
    "contract_store.cuh",
    "contract_team.cuh",
    "contract_fold.cuh",
    "select.cuh",
    "team.cuh",
    "fps.cuh",
    "points.cuh",
    "rank.cuh",
    "contract_tile_f32.cuh",
    "contract_tile_bf16.cuh",
    "mma.cuh",
    "contract_store_bf16.cu.tera",
    "contract_team_bf16.cu.tera",
    "contract_fold_bf16.cu.tera",
    "map.cu.tera",
    "reduce_row.cu.tera",
    "reduce_column.cu.tera",
    "reduce_column_team.cu.tera",
    "reduce_team.cu.tera",
    "contract_store_f32.cu.tera",
    "contract_team_f32.cu.tera",
    "contract_fold_f32.cu.tera",
    "contract_vector.cu.tera",
    "attention_tile.cu.tera",
    "attention_tile_bf16.cu.tera",
    "attention_token.cu.tera",
    "attention_team.cu.tera",
    "attention_keys.cuh",
    "attention_grad_tile.cu.tera",
    "attention_grad_tile_bf16.cu.tera",
    "seen.cuh",
    "chunk.cuh",
    "deal.cuh",
    "fps_registers.cu.tera",
    "fps_shared.cu.tera",
    "fps_recompute.cu.tera",
    "select_registers.cu.tera",
    "select_stream.cu.tera",
    "select_rounds.cu.tera",
    "scatter_set.cu.tera",
    "scatter_add.cu.tera",
}

/// The templates that parts are made from.
pub fn templates() -> impl Iterator<Item = &'static str> {
    let names = TEMPLATES.iter().map(|(name, _)| *name);
    names.filter(|name| name.ends_with(".cu.tera") && *name != "launch.cu.tera")
}

/// Writes the part that computes `desc`.
fn part(desc: &Desc) -> Result<Text, EmitError> {
    match &desc.body {
        Body::Map(body) => map::render(desc, body),
        Body::Reduce(body) => reduce::render(desc, body),
        Body::Contract(body) => contract::render(desc, body),
        Body::Attention(body) => attention::render(desc, body),
        Body::AttentionGrad(body) => attention_grad::render(desc, body),
        Body::Fps(body) => fps::render(desc, body),
        Body::Knn(body) => select::render_knn(desc, body),
        Body::TopK(body) => select::render_top_k(desc, body),
        Body::Scatter(body) => scatter::render(desc, body),
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
