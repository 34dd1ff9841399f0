//! How do samples get ready while the device computes? A thread reads ahead, in order, as far as a queue is long.
//!
//! Law: samples, and what is wrong with them, come as if they were read when they are asked for; the thread ends with its
//! feed.

use crate::base::Base;
use crate::data::{Reader, Ready, Set};
use crate::error::DataError;
use crate::order::Order;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// What samples are made ready with.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    pub(crate) base: Arc<Base>,
    pub(crate) set: Arc<Set>,
    pub(crate) reader: Arc<Reader>,
}

/// A sample's place in its list, and what it is made of.
type Made = (usize, Result<Ready, DataError>);

/// The samples of a run from a position on.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Those that were not asked for yet.
    positions: Range<u64>,
    ahead: Option<(Receiver<Made>, JoinHandle<()>)>,
}

impl Feed {
    /// Begins to read the samples at `positions` of the order, at most `n_ahead` of them before they are asked for.
    pub(crate) fn begin(supply: Supply, mut order: Order, positions: Range<u64>, n_ahead: usize) -> Feed {
        let (sender, receiver) = sync_channel(n_ahead);
        let all = positions.clone();
        let thread = std::thread::spawn(move || {
            for position in all {
                let at = order.at(position);
                let Some(sample) = supply.set.samples.get(at) else { return };
                // Nobody listens any more when the run ends early.
                if sender.send((at, supply.reader.ready(&supply.base, sample))).is_err() {
                    return;
                }
            }
        });
        Feed { positions, ahead: Some((receiver, thread)) }
    }

    /// True when the sample at `position` comes next.
    pub(crate) fn is_at(&self, position: u64) -> bool {
        self.positions.start == position && !self.positions.is_empty()
    }
}

impl Iterator for Feed {
    type Item = Made;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ahead.as_ref()?.0.recv() {
            Ok(item) => {
                self.positions.start += 1;
                Some(item)
            }
            Err(_) => {
                if let Some((_, thread)) = self.ahead.take()
                    && let Err(panic) = thread.join()
                {
                    resume_unwind(panic);
                }
                None
            }
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let Some((receiver, thread)) = self.ahead.take() else { return };
        drop(receiver);
        // A panic of a sample nobody asked for is nobody's.
        drop(thread.join());
    }
}
