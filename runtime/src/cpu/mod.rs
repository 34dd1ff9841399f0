//! How does the cpu compute a Desc? One native face per family, scalar programs compiled to code over strips.
//!
//! Law: a Desc is checked once (`check`), bound to its dynamic sizes (`linear`, `code`), then run (`strip`, `eval`,
//! `ops`, `load`) by its family: `map`, `reduce`, `contract`, `attention`, `geometry`, `topk`, `scatter`. The split of
//! work into tasks depends on sizes alone, so results do not depend on the number of threads. Whatever the caller
//! gives, the worst answer is a [`CpuError`].

mod attend_few;
mod attend_grad;
mod attention;
mod buffers;
mod cells;
mod check;
mod code;
mod contract;
mod error;
mod eval;
mod gemm;
mod geometry;
mod linear;
mod load;
mod map;
mod ops;
mod reduce;
mod scatter;
mod strip;
mod threads;
mod topk;

pub use buffers::{AlignedBytes, CpuArg};
pub use error::CpuError;
pub use threads::CpuThreads;

use buffers::{View, views};
use check::Scope;
use enel_bundle::{Body, BufferRole, Desc, Dynamic};
use std::sync::{Arc, Mutex, PoisonError};

/// A family's checked body.
trait Face: Send + Sync {
    /// Compiles it for the dynamic sizes of a call.
    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError>;
}

/// A body compiled for fixed sizes.
trait Bound: Send + Sync {
    fn run(&self, views: &[View<'_>], threads: &CpuThreads) -> Result<(), CpuError>;
}

type Cached = Option<(Vec<i64>, Arc<dyn Bound>)>;

/// A [`Desc`] ready to run on the cpu.
pub struct CpuKernel {
    buffers: Vec<BufferRole>,
    dynamics: Vec<Dynamic>,
    face: Box<dyn Face>,
    /// The code of the latest dynamic sizes.
    bound: Mutex<Cached>,
}

impl std::fmt::Debug for CpuKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuKernel({} buffers, {} dynamic sizes)", self.buffers.len(), self.dynamics.len())
    }
}

impl CpuKernel {
    /// Checks a Desc and prepares to run it.
    ///
    /// # Errors
    /// [`CpuError::Malformed`] when a program, a store or an extent does not hold together.
    pub fn prepare(desc: &Desc) -> Result<CpuKernel, CpuError> {
        let Desc { buffers, dynamics, body } = desc;
        let scope = Scope { buffers, n_dynamics: dynamics.len() };
        let face: Box<dyn Face> = match body {
            Body::Map(body) => Box::new(map::check(body, &scope)?),
            Body::Reduce(body) => Box::new(reduce::check(body, &scope)?),
            Body::Contract(body) => Box::new(contract::check(body, &scope)?),
            Body::Attention(body) => Box::new(attention::check(body, &scope)?),
            Body::AttentionGrad(body) => Box::new(attend_grad::check(body, &scope)?),
            Body::Fps(body) => Box::new(geometry::check_fps(body, &scope)?),
            Body::Knn(body) => Box::new(geometry::check_knn(body, &scope)?),
            Body::TopK(body) => Box::new(topk::check(body, &scope)?),
            Body::Scatter(body) => Box::new(scatter::check(body, &scope)?),
        };
        Ok(CpuKernel { buffers: buffers.clone(), dynamics: dynamics.clone(), face, bound: Mutex::new(None) })
    }

    /// How many buffers a run takes.
    pub fn n_buffers(&self) -> usize {
        self.buffers.len()
    }

    /// How many dynamic sizes a run takes.
    pub fn n_dynamics(&self) -> usize {
        self.dynamics.len()
    }

    /// Runs on `args`, in the Desc's order, with the call's dynamic sizes.
    ///
    /// A read buffer may be given either way; a written one must be [`CpuArg::Write`]. After an error the written
    /// buffers hold anything.
    ///
    /// # Errors
    /// A call that does not fit the Desc, or an index outside its buffer.
    pub fn run(&self, args: &mut [CpuArg<'_>], dynamics: &[i64], threads: &CpuThreads) -> Result<(), CpuError> {
        self.check_dynamics(dynamics)?;
        let views = views(&self.buffers, args)?;
        self.bind(dynamics)?.run(&views, threads)
    }

    fn check_dynamics(&self, dynamics: &[i64]) -> Result<(), CpuError> {
        if dynamics.len() != self.dynamics.len() {
            return Err(CpuError::DynamicCount { expected: self.dynamics.len(), got: dynamics.len() });
        }
        for (index, (bound, &value)) in self.dynamics.iter().zip(dynamics).enumerate() {
            let Dynamic { max, multiple } = *bound;
            if value < 0 || value > max || value.checked_rem(multiple).is_some_and(|rest| rest != 0) {
                return Err(CpuError::Dynamic { index, value, max, multiple });
            }
        }
        Ok(())
    }

    fn bind(&self, dynamics: &[i64]) -> Result<Arc<dyn Bound>, CpuError> {
        let mut cached = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sizes, bound)) = cached.as_ref()
            && sizes == dynamics
        {
            return Ok(Arc::clone(bound));
        }
        let bound = self.face.bind(dynamics)?;
        *cached = Some((dynamics.to_vec(), Arc::clone(&bound)));
        Ok(bound)
    }
}

/// Number of tasks of `size` that cover `total`.
fn n_tasks(total: i64, size: i64) -> usize {
    (total.max(0) as u64).div_ceil(size.max(1) as u64) as usize
}

/// Refuses a space with more points than a buffer has elements, as each point writes its own.
fn check_room(points: i64, buffers: impl Iterator<Item = u32>, views: &[View<'_>]) -> Result<(), CpuError> {
    for buffer in buffers {
        if points > views[buffer as usize].len as i64 {
            return Err(CpuError::OutOfBounds {
                buffer: buffer as usize,
                index: points - 1,
                len: views[buffer as usize].len,
            });
        }
    }
    Ok(())
}
