//! Who runs the tasks of a kernel? One thread, or a pool; the split into tasks never depends on which.

use super::error::CpuError;
use rayon::prelude::*;
use std::sync::Arc;

/// The threads kernels run on.
#[derive(Clone, Debug)]
pub struct CpuThreads(Option<Arc<rayon::ThreadPool>>);

impl CpuThreads {
    /// The calling thread alone.
    pub fn single() -> CpuThreads {
        CpuThreads(None)
    }

    /// A pool of `threads`; 0 means one per core.
    ///
    /// # Errors
    /// [`CpuError::Threads`] when the system refuses.
    pub fn new(threads: usize) -> Result<CpuThreads, CpuError> {
        if threads == 1 {
            return Ok(CpuThreads::single());
        }
        let named = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("cpu-kernel-{i}"));
        let pool = named.build().map_err(|e| CpuError::Threads { threads, message: e.to_string() })?;
        Ok(CpuThreads(Some(Arc::new(pool))))
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Runs `work` on a thread of the pool, from where tasks are shared without waking the caller in between.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs tasks `0..n`; stops at the first failure found.
    pub(crate) fn each(
        &self,
        n: usize,
        task: impl Fn(usize) -> Result<(), CpuError> + Sync + Send,
    ) -> Result<(), CpuError> {
        match &self.0 {
            Some(pool) if n > 1 => pool.install(|| (0..n).into_par_iter().try_for_each(task)),
            Some(_) | None => (0..n).try_for_each(task),
        }
    }

    /// Runs tasks `0..n` and keeps their results in order.
    pub(crate) fn collect<T: Send>(
        &self,
        n: usize,
        task: impl Fn(usize) -> Result<T, CpuError> + Sync + Send,
    ) -> Result<Vec<T>, CpuError> {
        match &self.0 {
            Some(pool) if n > 1 => pool.install(|| (0..n).into_par_iter().map(task).collect()),
            Some(_) | None => (0..n).map(task).collect(),
        }
    }
}
