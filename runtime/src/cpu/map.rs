//! Map: every point of a space on its own.

use super::buffers::View;
use super::check::{Scope, Typed, sizes};
use super::code::{Code, STRIP, compile};
use super::error::CpuError;
use super::strip::Exec;
use super::threads::CpuThreads;
use super::{Bound, Face, check_room, n_tasks};
use enel_bundle::{Extent, MapBody, Store};
use std::sync::Arc;

/// Points a task covers: some 10 us of work, enough to pay for handing it to a thread.
const TASK: i64 = 32 * STRIP as i64;

pub(crate) struct Map {
    space: Vec<Extent>,
    program: Typed,
    stores: Vec<Store>,
}

pub(crate) fn check(body: &MapBody, scope: &Scope<'_>) -> Result<Map, CpuError> {
    let MapBody { space, program, stores } = body;
    scope.extents("map space", space)?;
    let program = scope.storing("map program", program, space.len(), (&[], stores))?;
    Ok(Map { space: space.clone(), program, stores: stores.clone() })
}

impl Face for Map {
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let extents = sizes(&self.space, dynamics)?;
        Ok(Arc::new(BoundMap { code: compile(&self.program, &extents, dynamics, &[], &self.stores)? }))
    }
}

struct BoundMap {
    code: Code,
}

impl Bound for BoundMap {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError> {
        let code = &self.code;
        if code.stores.is_empty() {
            return Ok(());
        }
        check_room(code.total, code.stores.iter().map(|s| s.buffer), views)?;
        threads.each(n_tasks(code.total, TASK), |task| {
            let start = task as i64 * TASK;
            Exec::new(code, views).stores(start, TASK.min(code.total - start) as usize, &[])
        })
    }
}
