//! How does a value of ours lie beside the tensor of the same name in the released code's dump?
//!
//! Law: what a [`Layout`] says, checked: a golden tensor of another shape is an answer in words, never an index out of
//! range. Rows of padding are left out on both sides.

use super::files::Tensors;
use enel_interp::Tensor;
use enel_model::Layout;
use std::cmp::Ordering::Equal;

/// Values in the same order.
pub type Pair = (Vec<f64>, Vec<f64>);

/// What aligning needs to know of a case.
#[derive(Clone, Copy, Debug)]
pub struct Aligner<'a> {
    /// All values of ours, for the neighbour indices of a stage.
    pub ours: &'a Tensors,
    /// Real tokens of each padded sample.
    pub used: &'a [usize],
}

impl Aligner<'_> {
    /// Both tensors' values in the same order.
    ///
    /// # Errors
    /// Shapes that do not fit each other, in words.
    pub fn align(&self, ours: &Tensor, theirs: &Tensor, layout: Layout) -> Result<Pair, String> {
        match layout {
            Layout::Same => {
                expect(theirs, &ours.shape)?;
                Ok((ours.to_f64(), theirs.to_f64()))
            }
            Layout::Spread => {
                if ours.elems() != theirs.elems() {
                    return Err(format!("ours has {} spreads, the file {}", ours.elems(), theirs.elems()));
                }
                Ok((ours.to_f64(), theirs.to_f64()))
            }
            Layout::ChannelsLast => {
                let [b, n, c] = extents(ours)?;
                expect(theirs, &[b, c, n])?;
                Ok((ours.to_f64(), permuted(theirs, &[0, 2, 1])))
            }
            Layout::Neighbours { stage: _ } => {
                expect(theirs, &ours.shape)?;
                let [_, _, k] = extents(ours)?;
                let mut sorted = ours.to_f64();
                sorted.chunks_mut(k.max(1)).for_each(|row| row.sort_by(f64::total_cmp));
                Ok((sorted, theirs.to_f64()))
            }
            Layout::NeighbourRows { stage } => {
                expect(theirs, &ours.shape)?;
                Ok((self.by_index(ours, stage)?, theirs.to_f64()))
            }
            Layout::NeighbourChannels { stage } => {
                let [b, g, k, c] = extents(ours)?;
                expect(theirs, &[b, c, g, k])?;
                Ok((self.by_index(ours, stage)?, permuted(theirs, &[0, 2, 3, 1])))
            }
            Layout::Sets => {
                expect(theirs, &ours.shape)?;
                Ok((sorted_sets(ours)?, sorted_sets(theirs)?))
            }
            Layout::Tokens => Ok((ours.to_f64(), self.unpadded(theirs, &ours.shape)?)),
            Layout::TokenHeads => {
                let [samples, heads, t, d] = extents(theirs)?;
                let moved = Tensor::from_f64(theirs.dtype, &[samples, t, heads, d], &permuted(theirs, &[0, 2, 1, 3]));
                let moved = moved.map_err(|error| error.to_string())?;
                Ok((ours.to_f64(), self.unpadded(&moved, &ours.shape)?))
            }
            Layout::Positions => self.positions(ours, theirs),
            Layout::TokenPairs => self.pairs(ours, theirs),
        }
    }

    /// Neighbours of every centre put into the order of their indices.
    fn by_index(&self, ours: &Tensor, stage: usize) -> Result<Vec<f64>, String> {
        let name = format!("act.stage{stage}.knn_idx_sorted");
        let index = self.ours.get(&name).ok_or_else(|| format!("there is no {name} to sort by"))?.to_f64();
        let [b, g, k, c] = extents(ours)?;
        if index.len() != b * g * k {
            return Err(format!("{name} has {} indices, {} neighbours are to be sorted", index.len(), b * g * k));
        }
        let values = ours.to_f64();
        let mut out = Vec::with_capacity(values.len());
        for (row, group) in index.chunks(k.max(1)).zip(values.chunks((k * c).max(1))) {
            let mut order: Vec<usize> = (0..k).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
            for i in order {
                out.extend_from_slice(&group[i * c..(i + 1) * c]);
            }
        }
        Ok(out)
    }

    /// `[samples, t, ..]` without the rows of padding, for `packed: [T, ..]`.
    fn unpadded(&self, padded: &Tensor, packed: &[usize]) -> Result<Vec<f64>, String> {
        let total: usize = self.used.iter().sum();
        let fits = !packed.is_empty()
            && padded.shape.len() == packed.len() + 1
            && padded.shape[0] == self.used.len()
            && self.used.iter().all(|&used| used <= padded.shape[1])
            && padded.shape[2..] == packed[1..]
            && packed[0] == total;
        if !fits {
            return Err(format!("ours is {packed:?} over {total} tokens, the file has {:?}", padded.shape));
        }
        let row: usize = packed[1..].iter().product();
        let values = padded.to_f64();
        let sample = |(s, &used): (usize, &usize)| values[s * padded.shape[1] * row..][..used * row].to_vec();
        Ok(self.used.iter().enumerate().flat_map(sample).collect())
    }

    /// A table by position beside rows of the longest sample.
    fn positions(&self, ours: &Tensor, theirs: &Tensor) -> Result<Pair, String> {
        let ([total, d], [t, theirs_d]) = (extents(ours)?, extents(theirs)?);
        let longest = (0..self.used.len()).max_by_key(|&s| self.used[s]).ok_or("there are no samples")?;
        let first: usize = self.used[..longest].iter().sum();
        let n = self.used[longest].min(t);
        if d != theirs_d || first + n > total {
            return Err(format!("ours is {:?}, the file has {:?}", ours.shape, theirs.shape));
        }
        Ok((ours.to_f64()[first * d..][..n * d].to_vec(), theirs.to_f64()[..n * d].to_vec()))
    }

    /// Each sample's own square of `[T, H, T]` beside `[samples, H, t, t]`, without rows and columns of padding.
    fn pairs(&self, ours: &Tensor, theirs: &Tensor) -> Result<Pair, String> {
        let ([total, heads, _], [samples, theirs_heads, t, columns]) = (extents(ours)?, extents(theirs)?);
        let fits = samples == self.used.len()
            && heads == theirs_heads
            && t == columns
            && self.used.iter().all(|&used| used <= t)
            && self.used.iter().sum::<usize>() == total;
        if !fits {
            return Err(format!("ours is {:?}, the file has {:?}", ours.shape, theirs.shape));
        }
        let (a, b) = (ours.to_f64(), theirs.to_f64());
        let (mut x, mut y, mut first) = (Vec::new(), Vec::new(), 0);
        for (sample, &used) in self.used.iter().enumerate() {
            for h in 0..heads {
                for i in 0..used {
                    x.extend_from_slice(&a[((first + i) * heads + h) * total + first..][..used]);
                    y.extend_from_slice(&b[((sample * heads + h) * t + i) * t..][..used]);
                }
            }
            first += used;
        }
        Ok((x, y))
    }
}

/// The rows of each set `[.., K, C]` in the order of their elements.
fn sorted_sets(t: &Tensor) -> Result<Vec<f64>, String> {
    let &[.., k, c] = t.shape.as_slice() else { return Err(format!("{:?} holds no sets", t.shape)) };
    let values = t.to_f64();
    let mut sorted = Vec::with_capacity(values.len());
    for set in values.chunks((k * c).max(1)) {
        let mut rows: Vec<&[f64]> = set.chunks(c.max(1)).collect();
        rows.sort_by(|a, b| a.iter().zip(*b).map(|(x, y)| x.total_cmp(y)).find(|o| o.is_ne()).unwrap_or(Equal));
        rows.iter().for_each(|row| sorted.extend_from_slice(row));
    }
    Ok(sorted)
}

fn expect(theirs: &Tensor, shape: &[usize]) -> Result<(), String> {
    if theirs.shape == shape { Ok(()) } else { Err(format!("ours is {shape:?}, the file has {:?}", theirs.shape)) }
}

fn extents<const N: usize>(tensor: &Tensor) -> Result<[usize; N], String> {
    let shape = tensor.shape.as_slice();
    shape.try_into().map_err(|_| format!("a tensor of shape {shape:?} where {N} axes are wanted"))
}

/// Axes of `t` permuted, values in row-major order of the result.
fn permuted(t: &Tensor, perm: &[usize]) -> Vec<f64> {
    let values = t.to_f64();
    let strides: Vec<usize> = (0..t.shape.len()).map(|i| t.shape[i + 1..].iter().product()).collect();
    let shape: Vec<usize> = perm.iter().map(|&p| t.shape[p]).collect();
    let place = |mut flat: usize| {
        let mut from = 0;
        for (axis, &extent) in shape.iter().enumerate().rev() {
            from += (flat % extent) * strides[perm[axis]];
            flat /= extent;
        }
        from
    };
    (0..values.len()).map(|flat| values[place(flat)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
        Tensor::from_f64(enel_ir::DType::F32, shape, values).unwrap()
    }

    #[test]
    fn padding_is_left_out_and_wrong_shapes_are_told() {
        let none = Tensors::new();
        let aligner = Aligner { ours: &none, used: &[2, 1] };
        let ours = tensor(&[3, 1], &[1.0, 2.0, 3.0]);
        let theirs = tensor(&[2, 2, 1], &[1.0, 2.0, 3.0, 99.0]);
        let (a, b) = aligner.align(&ours, &theirs, Layout::Tokens).unwrap();
        assert_eq!(a, b);
        assert!(aligner.align(&ours, &tensor(&[2, 1, 1], &[1.0, 3.0]), Layout::Tokens).is_err());
        assert!(aligner.align(&ours, &tensor(&[], &[1.0]), Layout::Tokens).is_err());
        let heads = tensor(&[2, 1, 2, 1], &[1.0, 2.0, 3.0, 99.0]);
        let (a, b) = aligner.align(&tensor(&[3, 1, 1], &[1.0, 2.0, 3.0]), &heads, Layout::TokenHeads).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn neighbours_are_compared_in_the_order_of_their_indices() {
        let index = tensor(&[1, 1, 3], &[7.0, 2.0, 5.0]);
        let ours = Tensors::from([("act.stage0.knn_idx_sorted".to_owned(), index.clone())]);
        let aligner = Aligner { ours: &ours, used: &[] };
        let sorted = tensor(&[1, 1, 3], &[2.0, 5.0, 7.0]);
        let (a, b) = aligner.align(&index, &sorted, Layout::Neighbours { stage: 0 }).unwrap();
        assert_eq!(a, b);
        let rows = tensor(&[1, 1, 3, 2], &[70.0, 71.0, 20.0, 21.0, 50.0, 51.0]);
        let theirs = tensor(&[1, 2, 1, 3], &[20.0, 50.0, 70.0, 21.0, 51.0, 71.0]);
        let (a, b) = aligner.align(&rows, &theirs, Layout::NeighbourChannels { stage: 0 }).unwrap();
        assert_eq!(a, b);
        assert!(aligner.align(&rows, &theirs, Layout::NeighbourChannels { stage: 1 }).is_err());
    }

    #[test]
    fn each_sample_has_its_own_square_of_pairs() {
        let none = Tensors::new();
        let aligner = Aligner { ours: &none, used: &[2, 1] };
        let ours = tensor(&[3, 1, 3], &[1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 5.0]);
        let theirs = tensor(&[2, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 9.0, 9.0]);
        let (a, b) = aligner.align(&ours, &theirs, Layout::TokenPairs).unwrap();
        assert_eq!(a, b);
        assert_eq!(a, [1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
