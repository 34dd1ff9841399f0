//! How does one look inside? Named intermediate values, and how each lies beside the released code's tensor.

use enel_ir::NodeId;

/// Which intermediate values become outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapLevel {
    /// None.
    Off,
    /// Point tokens, projected tokens and hidden states between layers.
    Hidden,
    /// Everything the golden values hold.
    All,
}

/// How a tapped value lies beside the tensor of the same name in the released code's dump.
///
/// Letters: B clouds, N points, G centres, K neighbours, C channels, T packed tokens, t padded tokens of a sample.
/// Where K stands, ours is ordered by (distance, index) and theirs by index: sort both by the neighbour indices of the
/// same stage before comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Alike.
    Same,
    /// Ours `[B, N, C]`, theirs `[B, C, N]`.
    ChannelsLast,
    /// Neighbour indices: both `[B, G, K]`, theirs sorted along K.
    Neighbours {
        /// Stage whose indices these are.
        stage: usize,
    },
    /// Ours `[B, G, K, C]`, theirs `[B, G, K, C]` with K in index order.
    NeighbourRows {
        /// Stage whose indices order K.
        stage: usize,
    },
    /// Ours `[B, G, K, C]`, theirs `[B, C, G, K]` with K in index order.
    NeighbourChannels {
        /// Stage whose indices order K.
        stage: usize,
    },
    /// Both `[.., K, C]`, where the order of the K rows means nothing.
    Sets,
    /// Ours `[]` over the batch or `[B]` per cloud; theirs always `[]` over the batch.
    Spread,
    /// Ours `[T, ..]` packed, theirs `[samples, t, ..]` padded.
    Tokens,
    /// Ours `[T, H, D]` packed, theirs `[samples, H, t, D]` padded.
    TokenHeads,
    /// Ours `[T, D]` packed, theirs `[t, D]` by position.
    Positions,
    /// Ours `[T, H, T]` packed, theirs `[samples, H, t, t]` padded.
    TokenPairs,
}

/// One tapped value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Output name.
    pub name: String,
    /// The value.
    pub value: NodeId,
    /// How it lies beside the released code's tensor.
    pub layout: Layout,
}

/// Tapped values of one graph, in the order they arise.
#[derive(Clone, Debug)]
pub struct Taps {
    level: TapLevel,
    list: Vec<Tap>,
}

impl Taps {
    /// Collects values up to `level`.
    pub fn new(level: TapLevel) -> Taps {
        Taps { level, list: Vec::new() }
    }

    /// True when values of `level` are collected.
    pub fn wants(&self, level: TapLevel) -> bool {
        level != TapLevel::Off && level <= self.level
    }

    /// Notes a value when its level is collected.
    pub fn note(&mut self, level: TapLevel, name: impl Into<String>, value: NodeId, layout: Layout) {
        if self.wants(level) {
            self.list.push(Tap { name: name.into(), value, layout });
        }
    }

    /// What was noted.
    pub fn list(&self) -> &[Tap] {
        &self.list
    }
}
