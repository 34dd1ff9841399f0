//! TopK: the k first of each row by (value, index), NaN last.

use super::buffers::View;
use super::check::{Scope, Typed, malformed, product, sizes};
use super::code::{Code, compile};
use super::error::CpuError;
use super::ops::Src;
use super::strip::{Exec, Results};
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{Extent, Kind, Reg, TopKBody};
use std::sync::Arc;

/// Elements a task ranks, at least a row.
const TASK: i64 = 16_384;

pub(crate) struct TopK {
    outer: Vec<Extent>,
    n: Extent,
    k: Extent,
    largest: bool,
    value: (Typed, Reg),
    out: u32,
}

pub(crate) fn check(body: &TopKBody, scope: &Scope<'_>) -> Result<TopK, CpuError> {
    let TopKBody { outer, n, k, largest, value, out } = body;
    scope.extents("topk outer", outer)?;
    scope.extents("topk sizes", &[*n, *k])?;
    let typed = scope.program("topk value", &value.program, outer.len() + 1, &[])?;
    if typed.kind("topk value", value.reg)? == Kind::Bool {
        return Err(malformed("topk value", "truth values have no order here"));
    }
    if !scope.written("topk out", *out)?.is_int() {
        return Err(malformed("topk out", "indices need an integer buffer"));
    }
    Ok(TopK { outer: outer.clone(), n: *n, k: *k, largest: *largest, value: (typed, value.reg), out: *out })
}

impl Face for TopK {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let outer = sizes(&self.outer, dynamics)?;
        let (n, k) = (self.n.value(dynamics), self.k.value(dynamics));
        if k > n || n > i64::from(u32::MAX) {
            return Err(CpuError::Size { what: "elements kept", value: k });
        }
        let extents = [outer.as_slice(), &[n]].concat();
        let value = compile(&self.value.0, &extents, dynamics, &[self.value.1], &[])?;
        Ok(Arc::new(BoundTopK { rows: product(&outer)?, n, k, largest: self.largest, value, out: self.out }))
    }
}

struct BoundTopK {
    rows: i64,
    n: i64,
    k: i64,
    largest: bool,
    value: Code,
    out: u32,
}

/// A float's place in ascending order; both zeros are one value, NaN is refused.
fn float_key(x: f32) -> u64 {
    let bits = (x + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered)
}

fn int_key(x: i64) -> u64 {
    x as u64 ^ 1 << 63
}

impl Bound for BoundTopK {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        product(&[self.rows, self.k])?;
        check_room(self.rows * self.k, std::iter::once(self.out), views)?;
        if self.k == 0 || self.rows == 0 {
            return Ok(());
        }
        let per_task = (TASK / self.n).max(1);
        let (n, k, out) = (self.n as usize, self.k as usize, &views[self.out as usize]);
        threads.each(n_tasks(self.rows, per_task), |task| {
            let mut exec = Exec::new(&self.value, views);
            let mut keys: Vec<(u64, u32)> = Vec::with_capacity(n);
            let first = task as i64 * per_task;
            for row in first..self.rows.min(first + per_task) {
                keys.clear();
                exec.range(row * self.n, n, &[], &mut |at, len, results| {
                    self.push_keys(results, at, len, &mut keys);
                    Ok(())
                })?;
                if k < n {
                    keys.select_nth_unstable(k - 1);
                }
                keys[..k].sort_unstable();
                for (j, (_, index)) in keys[..k].iter().enumerate() {
                    out.set_int(row as usize * k + j, i64::from(*index));
                }
            }
            Ok(())
        })
    }
}

impl BoundTopK {
    fn push_keys(&self, results: &Results<'_>, at: usize, len: usize, keys: &mut Vec<(u64, u32)>) {
        let directed = |key: u64| if self.largest { !key } else { key };
        let float = |x: f32| if x.is_nan() { u64::MAX } else { directed(float_key(x)) };
        let mut push = |i: usize, key: u64| keys.push((key, (at + i) as u32));
        match results.kind(0) {
            Kind::Float => {
                let values: Src<'_, f32> = results.float(0);
                (0..len).for_each(|i| push(i, float(values.at(i))));
            }
            Kind::Int | Kind::Bool => {
                let values: Src<'_, i64> = results.int(0);
                (0..len).for_each(|i| push(i, directed(int_key(values.at(i)))));
            }
        }
    }
}
