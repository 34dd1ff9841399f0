//! What does Ctrl-C stop? The answer under way, so that what was said stays whole; outside an answer the command.

use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

/// No answer is under way: Ctrl-C ends the process.
const IDLE: u8 = 0;
/// An answer is under way.
const ANSWERING: u8 = 1;
/// It is to stop.
const STOPPING: u8 = 2;
/// Exit code of a command ended by an interrupt, 128 and the number of the signal.
const EXIT_CODE: i32 = 130;

static STATE: AtomicU8 = AtomicU8::new(IDLE);
static HANDLER: Once = Once::new();

/// While it lives, Ctrl-C is a wish and not an end; a second one still ends the process.
#[derive(Debug)]
pub struct Answering(());

impl Answering {
    /// Begins to listen. Where the system lets nobody listen, Ctrl-C ends the process as ever.
    pub fn begin() -> Answering {
        HANDLER.call_once(|| drop(ctrlc::set_handler(interrupted)));
        STATE.store(ANSWERING, Ordering::SeqCst);
        Answering(())
    }

    /// Whether the answer should stop.
    pub fn is_stopped(&self) -> bool {
        STATE.load(Ordering::SeqCst) == STOPPING
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        STATE.store(IDLE, Ordering::SeqCst);
    }
}

fn interrupted() {
    if STATE.compare_exchange(ANSWERING, STOPPING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        std::process::exit(EXIT_CODE);
    }
}
