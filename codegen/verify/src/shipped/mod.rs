//! Which kernels are shipped? One of each way in which a family is compiled, with calls that reach all of its code.
//!
//! Law: sizes are dynamic wherever that changes no template, so that one text meets one element, both sides of a tile's edge
//! and more tiles than it has stages; bounds choose the template. A test holds the list against the templates.

mod attention;
mod contract;
mod select;
mod sums;

use crate::build::{Random, desc};
use crate::check::{Case, Near};
use crate::data::Data;
use enel_bundle::{Access, Body, BufferRole, Desc, Dynamic, Extent};
use enel_types::DType;

/// A kernel, and calls of it.
#[derive(Clone, Debug)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// What its parts compute.
    pub descs: Vec<Desc>,
    /// How near each part's results have to be.
    pub near: Vec<Near>,
    /// Calls, each a case per part.
    pub calls: Vec<Vec<Case>>,
}

/// All of them.
pub fn shipped() -> Vec<Shipped> {
    [sums::kernels(), contract::kernels(), attention::kernels(), select::kernels(), vec![together()]].concat()
}

/// A map, a reduction and a product on tensor cores in one launch; the first may have no blocks.
fn together() -> Shipped {
    let parts = [sums::transposed(DType::F32), sums::rows_of(64), contract::small_tensor()];
    let sizes: [[&[i64]; 3]; 5] = [
        [&[3, 11], &[5, 37], &[21, 24, 40]],
        [&[0, 4], &[9, 1], &[9, 8, 8]],
        [&[17, 17], &[1, 64], &[65, 72, 8]],
        [&[40, 50], &[40, 63], &[577, 16, 8]],
        [&[1, 1], &[1, 2], &[80, 80, 136]],
    ];
    let call = |sizes: [&[i64]; 3]| parts.iter().zip(sizes).map(|(part, sizes)| part.case(sizes, 3)).collect();
    Shipped {
        name: "together",
        descs: parts.iter().map(|part| part.desc.clone()).collect(),
        near: parts.iter().map(|part| part.near).collect(),
        calls: sizes.map(call).into(),
    }
}

/// A Desc, how near its results have to be, and how large its buffers are.
struct Part {
    desc: Desc,
    near: Near,
    shapes: Vec<Vec<Extent>>,
}

/// Largest value and divisor of a dynamic size.
type Bound = (i64, i64);

impl Part {
    /// Buffers are a role and a shape each.
    fn new(buffers: Vec<(BufferRole, Vec<Extent>)>, bounds: &[Bound], body: Body, near: Near) -> Part {
        let dynamics: Vec<Dynamic> = bounds.iter().map(|&(max, multiple)| Dynamic { max, multiple }).collect();
        let (roles, shapes): (Vec<BufferRole>, Vec<Vec<Extent>>) = buffers.into_iter().unzip();
        Part { desc: desc(&roles, &dynamics, body), near, shapes }
    }

    /// A call at these sizes, on drawn data.
    fn case(&self, sizes: &[i64], seed: u64) -> Case {
        let mut random = Random(seed);
        let drawn = |(role, shape): (&BufferRole, &Vec<Extent>)| {
            let n: i64 = shape.iter().map(|extent| extent.value(sizes)).product();
            match role.access {
                Access::Write => Data::zeros(role.dtype, n as usize),
                Access::Read | Access::Update => random.data(role.dtype, n),
            }
        };
        let buffers = self.desc.buffers.iter().zip(&self.shapes).map(drawn).collect();
        Case { desc: self.desc.clone(), sizes: sizes.to_vec(), buffers }
    }

    /// A kernel of this part alone, called at each of these sizes; `change` has a say in the data.
    fn alone<const N: usize>(self, name: &'static str, sizes: &[[i64; N]], change: impl Fn(&mut Case)) -> Shipped {
        let call = |(seed, sizes): (usize, &[i64; N])| {
            let mut case = self.case(sizes, seed as u64 + 1);
            change(&mut case);
            vec![case]
        };
        let calls = sizes.iter().enumerate().map(call).collect();
        Shipped { name, descs: vec![self.desc.clone()], near: vec![self.near], calls }
    }
}

/// Dynamic size number `n`.
fn d(n: u32) -> Extent {
    Extent::Dyn(n)
}

/// Data as they were drawn.
fn drawn(_: &mut Case) {}

/// Replaces the elements of float buffer `buffer`.
fn floats(case: &mut Case, buffer: usize, value: impl Fn(usize, f64) -> f64) {
    let dtype = case.buffers[buffer].dtype();
    if let Data::Float(_, values) = &case.buffers[buffer] {
        case.buffers[buffer] = Data::float(dtype, values.iter().enumerate().map(|(at, x)| value(at, *x)));
    }
}

/// Replaces the elements of integer buffer `buffer`.
fn integers(case: &mut Case, buffer: usize, value: impl FnMut(usize) -> i64) {
    let (dtype, n) = (case.buffers[buffer].dtype(), case.buffers[buffer].len());
    case.buffers[buffer] = Data::int(dtype, (0..n).map(value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_differ_and_sizes_keep_their_bounds() {
        let all = shipped();
        assert_eq!(all.iter().map(|kernel| kernel.name).collect::<BTreeSet<_>>().len(), all.len());
        for Shipped { name, descs, near, calls } in &all {
            assert_eq!(descs.len(), near.len(), "{name}");
            for case in calls.iter().flatten() {
                for (dynamic, &size) in case.desc.dynamics.iter().zip(&case.sizes) {
                    assert!(size <= dynamic.max && size % dynamic.multiple == 0, "{name}: {:?}", case.sizes);
                }
            }
        }
    }
}
