//! How does a cloud become tokens? The token embedding module, written as the paper has it.
//!
//! Law: channels are the last axis everywhere, and every neighbour is embedded after it is gathered; what can be done
//! once per point, folded or fused is for the rewrites to find. Geometry and spreads are f32 in every storage mode.
//! **Source** arXiv 2502.09620 v4, section 3.1 and appendix A.2, with the released code's values where the paper is
//! silent; Point-NN, arXiv 2303.08134, for the position code.

use crate::config::{PointConfig, Pooling, SigmaMode};
use crate::scope::{ModelError, Scope, dim};
use crate::tap::{Layout, TapLevel};
use enel_ir::{Composite, DType, Dim, NodeId, Op, ReduceOp, Scalar, TensorType, UnaryOp};

type Made = Result<NodeId, ModelError>;

/// Added to every spread before dividing by it, as the released code does.
const SPREAD_EPS: f64 = 1e-5;

/// The point tokens of a batch of clouds.
#[derive(Clone, Copy, Debug)]
pub struct TokenEmbedding {
    /// `[B, tokens per cloud, C]`, the class token first.
    pub features: NodeId,
    /// `f32[B, M, 3]`: where the last stage's centres are, without the class token.
    pub center_xyz: NodeId,
    /// `i32[B, M, K]`: neighbours of the last stage among the centres of the stage before.
    pub neighbours: NodeId,
    /// `f32[B, M, K, 3]`: where those neighbours are.
    pub neighbour_xyz: NodeId,
}

/// Points of one level: coordinates `f32[B, N, 3]` and channels `[B, N, C]`.
#[derive(Clone, Copy)]
struct Level {
    xyz: NodeId,
    x: NodeId,
}

/// Centres and their neighbours at one stage.
#[derive(Clone, Copy)]
struct Grouped {
    index: NodeId,
    center: Level,
    xyz: NodeId,
    x: NodeId,
}

/// Appends the token embedding of `points: f32[B, N, point_dims]`; weight names begin with `prefix`.
///
/// # Errors
/// [`ModelError::Config`] for a config without a graph, [`ModelError::Build`] when `points` does not fit it.
pub fn token_embedding(
    scope: &mut Scope,
    config: &PointConfig,
    points: NodeId,
    prefix: &str,
) -> Result<TokenEmbedding, ModelError> {
    config.check()?;
    let xyz = scope.graph.narrow(points, 2, dim(0), dim(3))?;
    let x = raw_embedding(scope, config, points, prefix)?;
    scope.taps.note(TapLevel::All, "act.raw_embed", x, Layout::ChannelsLast);
    let mut level = Level { xyz, x };
    let mut last = None;
    for stage in 0..config.num_stages {
        let grouped = group(scope, config, level, stage)?;
        let x = aggregate(scope, config, &grouped, &Stage { index: stage, prefix })?;
        level = Level { xyz: grouped.center.xyz, x };
        last = Some(grouped);
    }
    let last = last.ok_or(crate::ConfigError::Zero { field: "point.num_stages" })?;
    let features = if config.class_token { with_class_token(scope, config, level.x, prefix)? } else { level.x };
    scope.taps.note(TapLevel::All, "act.final_xyz", level.xyz, Layout::Same);
    scope.taps.note(TapLevel::Hidden, crate::names::POINT_FEATURES, features, Layout::Same);
    Ok(TokenEmbedding { features, center_xyz: level.xyz, neighbours: last.index, neighbour_xyz: last.xyz })
}

/// Appends the projector: linear layers with GELU between them, from point tokens to a decoder of width `hidden_size`.
///
/// # Errors
/// [`ModelError::Build`] when `features` is not `[B, tokens, C]` of this config.
pub fn project(
    scope: &mut Scope,
    config: &PointConfig,
    features: NodeId,
    (hidden_size, prefix): (usize, &str),
) -> Made {
    let widths = config.projection_widths(hidden_size);
    let mut x = features;
    for (i, pair) in widths.windows(2).enumerate() {
        if i > 0 {
            x = scope.gelu(x)?;
        }
        // Positions in the released sequence: a linear layer, an activation, a linear layer, ...
        let name = format!("{prefix}{}", 2 * i);
        let matrix = scope.weight(&format!("{name}.weight"), &[pair[1], pair[0]])?;
        x = scope.matmul(x, matrix)?;
        x = scope.add_bias(x, &name, pair[1])?;
    }
    scope.taps.note(TapLevel::Hidden, crate::names::PROJECTED, x, Layout::Same);
    Ok(x)
}

fn raw_embedding(scope: &mut Scope, config: &PointConfig, points: NodeId, prefix: &str) -> Made {
    let name = format!("{prefix}EncNP.raw_point_embed.net");
    let shape = [config.embed_dim, config.point_dims, 1];
    let x = scope.pointwise_conv(points, &format!("{name}.0"), &shape)?;
    let x = scope.batch_norm(x, &format!("{name}.1"), config.embed_dim, config.bn_eps)?;
    scope.relu(x)
}

/// Farthest points as centres, and the nearest points of each. A later stage samples from the centres of the one
/// before, which stand in sampling order; it therefore takes a prefix of them, which a rewrite may use.
fn group(scope: &mut Scope, config: &PointConfig, from: Level, stage: usize) -> Result<Grouped, ModelError> {
    let g = &mut scope.graph;
    let centres = g.push(Op::Fps { n: dim(config.centres(stage)) }, &[from.xyz])?;
    let center = Level { xyz: g.gather(from.xyz, centres, 1, 1)?, x: g.gather(from.x, centres, 1, 1)? };
    let index = g.push(Op::Knn { k: dim(config.group_size) }, &[center.xyz, from.xyz])?;
    let xyz = g.gather(from.xyz, index, 1, 1)?;
    let x = g.gather(from.x, index, 1, 1)?;
    let taps = &mut scope.taps;
    taps.note(TapLevel::All, format!("act.stage{stage}.fps_idx"), centres, Layout::Same);
    taps.note(TapLevel::All, format!("act.stage{stage}.knn_idx_sorted"), index, Layout::Neighbours { stage });
    taps.note(TapLevel::All, format!("act.stage{stage}.center_xyz"), center.xyz, Layout::Same);
    taps.note(TapLevel::All, format!("act.stage{stage}.center_x"), center.x, Layout::Same);
    taps.note(TapLevel::All, format!("act.stage{stage}.knn_xyz_sorted"), xyz, Layout::NeighbourRows { stage });
    Ok(Grouped { index, center, xyz, x })
}

/// Which stage, and how its weights begin.
struct Stage<'p> {
    index: usize,
    prefix: &'p str,
}

/// Local geometry aggregation: neighbours relative to their centre, two small networks, the largest of each channel.
fn aggregate(scope: &mut Scope, config: &PointConfig, grouped: &Grouped, stage: &Stage<'_>) -> Made {
    let s = stage.index;
    let d = config.width(s);
    let x = scale_by_spread(scope, config, (grouped.x, grouped.center.x), &format!("act.stage{s}.std_x"))?;
    let x = scope.stored(x)?;
    let xyz = scale_by_spread(scope, config, (grouped.xyz, grouped.center.xyz), &format!("act.stage{s}.std_xyz"))?;

    let center = beside_neighbours(scope, grouped.center.x)?;
    let shape = scope.graph.ty(x).shape.clone();
    let center = scope.graph.broadcast(center, shape)?;
    let h = scope.graph.concat(&[x, center], 3)?;
    let lga = format!("{}EncNP.LGA_list.{s}", stage.prefix);
    let h = scope.pointwise_conv(h, &format!("{lga}.linear1.net.0"), &[d, d, 1])?;
    let h = scope.batch_norm(h, &format!("{lga}.linear1.net.1"), d, config.bn_eps)?;
    let h = scope.relu(h)?;
    let channels = Layout::NeighbourChannels { stage: s };
    scope.taps.note(TapLevel::All, format!("act.stage{s}.linear1_out"), h, channels);

    let code = position_code(scope, config, xyz, d)?;
    let h = scope.graph.add(h, code)?;
    let h = scope.stored(h)?;
    scope.taps.note(TapLevel::All, format!("act.stage{s}.pose_out"), h, channels);
    let h = bottleneck(scope, config, h, (&format!("{lga}.linear2.0"), d))?;
    scope.taps.note(TapLevel::All, format!("act.stage{s}.lga_out"), h, channels);

    let h = pool(scope, config, h)?;
    let name = format!("{}EncNP.Pooling_list.{s}.out_transform.0", stage.prefix);
    let h = scope.batch_norm(h, &name, d, config.bn_eps)?;
    let h = scope.gelu(h)?;
    scope.taps.note(TapLevel::All, format!("act.stage{s}.pool_out"), h, Layout::ChannelsLast);
    Ok(h)
}

/// `[B, G, C]` as `[B, G, 1, C]`.
fn beside_neighbours(scope: &mut Scope, x: NodeId) -> Made {
    let mut shape = scope.graph.ty(x).shape.clone();
    shape.insert(2, dim(1));
    Ok(scope.graph.reshape(x, shape)?)
}

/// `(x_knn - x_c) / (spread + eps)` in f32; the spread is one number, unbiased, over everything it covers.
fn scale_by_spread(scope: &mut Scope, config: &PointConfig, (knn, center): (NodeId, NodeId), tap: &str) -> Made {
    let center = beside_neighbours(scope, center)?;
    let g = &mut scope.graph;
    let knn = g.cast(knn, DType::F32)?;
    let center = g.cast(center, DType::F32)?;
    let diff = g.sub(knn, center)?;
    let axes: Vec<usize> = match config.sigma {
        SigmaMode::PerCloud => vec![1, 2, 3],
        SigmaMode::Batch => vec![0, 1, 2, 3],
    };
    let variance = g.composite(Composite::Variance { axes, keep: true, ddof: 1 }, &[diff])?;
    let spread = g.unary(UnaryOp::Sqrt, variance)?;
    let eps = g.scalar(SPREAD_EPS)?;
    let divisor = g.add(spread, eps)?;
    let scaled = g.div(diff, divisor)?;
    if scope.taps.wants(TapLevel::All) {
        let shape = match config.sigma {
            SigmaMode::PerCloud => scope.graph.ty(spread).shape[..1].to_vec(),
            SigmaMode::Batch => vec![],
        };
        let shown = scope.graph.reshape(spread, shape)?;
        scope.taps.note(TapLevel::All, tap, shown, Layout::Spread);
    }
    Ok(scaled)
}

/// Sines and cosines of scaled coordinates `f32[B, G, K, 3]`: channel `2 f a + 2 j` is the sine and the next one the
/// cosine of `beta p_a / alpha^(j / f)`, with `f = width / 6`.
///
/// Equal wavelengths (`alpha = 1`, as ENEL has it) are computed once and repeated.
fn position_code(scope: &mut Scope, config: &PointConfig, xyz: NodeId, width: usize) -> Made {
    let g = &mut scope.graph;
    let f = width / 6;
    let mut column = g.ty(xyz).shape.clone();
    column.push(dim(1));
    let mut angle = xyz;
    if config.pose_beta != 1.0 {
        let beta = g.scalar(config.pose_beta)?;
        angle = g.mul(angle, beta)?;
    }
    angle = g.reshape(angle, column)?;
    if config.pose_alpha != 1.0 {
        let wavelength = |j: usize| Scalar::F(f64::from(config.pose_alpha.powf(j as f64 / f as f64) as f32));
        let ty = TensorType::new(DType::F32, vec![dim(f)]);
        let table = g.push(Op::Const { values: (0..f).map(wavelength).collect(), ty }, &[])?;
        angle = g.div(angle, table)?;
    }
    let mut pair = g.ty(angle).shape.clone();
    pair.push(dim(1));
    let sin = g.unary(UnaryOp::Sin, angle)?;
    let sin = g.reshape(sin, pair.clone())?;
    let cos = g.unary(UnaryOp::Cos, angle)?;
    let cos = g.reshape(cos, pair)?;
    let both = g.concat(&[sin, cos], 5)?;
    let mut full = g.ty(both).shape.clone();
    full[4] = dim(f);
    let both = g.broadcast(both, full.clone())?;
    full.truncate(3);
    full.push(dim(width));
    Ok(g.reshape(both, full)?)
}

/// Down to half the channels and back, batch-normalised, added to the input.
fn bottleneck(scope: &mut Scope, config: &PointConfig, h: NodeId, (name, d): (&str, usize)) -> Made {
    let half = d / 2;
    let y = scope.pointwise_conv(h, &format!("{name}.net1.0"), &[half, d, 1, 1])?;
    let y = scope.add_bias(y, &format!("{name}.net1.0"), half)?;
    let y = scope.batch_norm(y, &format!("{name}.net1.1"), half, config.bn_eps)?;
    let y = scope.relu(y)?;
    let y = scope.pointwise_conv(y, &format!("{name}.net2.0"), &[d, half, 1, 1])?;
    let y = scope.add_bias(y, &format!("{name}.net2.0"), d)?;
    let y = scope.batch_norm(y, &format!("{name}.net2.1"), d, config.bn_eps)?;
    let y = scope.graph.add(y, h)?;
    scope.relu(y)
}

fn pool(scope: &mut Scope, config: &PointConfig, h: NodeId) -> Made {
    let g = &mut scope.graph;
    let largest = g.reduce(ReduceOp::Max, h, &[2], false)?;
    match config.pooling {
        Pooling::Max => Ok(largest),
        Pooling::MaxMean => {
            let mean = g.composite(Composite::Mean { axes: vec![2], keep: false }, &[h])?;
            Ok(g.add(largest, mean)?)
        }
    }
}

fn with_class_token(scope: &mut Scope, config: &PointConfig, x: NodeId, prefix: &str) -> Made {
    let c = config.out_dim();
    let token = scope.weight(&format!("{prefix}class_embedding"), &[1, 1, c])?;
    let clouds: Dim = scope.graph.ty(x).shape[0].clone();
    let token = scope.graph.broadcast(token, vec![clouds, dim(1), dim(c)])?;
    Ok(scope.graph.concat(&[token, x], 1)?)
}
