//! How do calls work? Frames on a stack for each group of lanes, pointers to functions, and the device's own library.

use super::access::{Fault, Home, Lane, MemoryFault, Request, resolve};
use super::block::Env;
use super::print::{MAX_TEXT, Source, format};
use super::step::{Next, fail};
use super::warp::{ALL, Base, LANES, Return, State, Warp};
use crate::decode::MAX_LOCAL_BYTES;
use crate::decode::func::function_at;
use crate::decode::op::{Builtin, Call, MemSpace, Op, Target};
use crate::error::Access;

/// Calls that may nest; registers of every frame stay on the host.
const MAX_DEPTH: usize = 4096;
/// Longest text an assertion shows, in bytes.
const MAX_SHOWN: usize = 256;

impl Env<'_> {
    pub(crate) fn call(&mut self, warp: &mut Warp, call: &Call, m: u32) -> Lane<Next> {
        match call.target {
            Target::Function(callee) => {
                Self::leave_behind(warp, m);
                self.enter(warp, call, callee, m)
            }
            Target::Register(r) => {
                let lane = m.trailing_zeros() as usize;
                let row = *warp.get64(r);
                let functions = &self.grid.module.functions;
                let Some(callee) = function_at(row[lane], functions.len()) else {
                    let detail = format!("a call of address {:#x}, which is no function", row[lane]);
                    return fail(lane as u32, Fault::WarpSync { detail });
                };
                let sizes = |list: &[(u32, u32)]| list.iter().map(|&(_, bytes)| bytes).collect::<Vec<_>>();
                let frame = &functions[callee];
                if sizes(&call.args) != sizes(&frame.params) || sizes(&call.results) != sizes(&frame.returns) {
                    let name = &self.grid.module.names[callee];
                    let detail = format!("a call of `{name}` with arguments it does not take");
                    return fail(lane as u32, Fault::WarpSync { detail });
                }
                Self::leave_behind(warp, m);
                // Lanes that call something else come back to this instruction.
                let same =
                    (0..LANES).filter(|&i| m >> i & 1 == 1 && row[i] == row[lane]).fold(0, |acc, i| acc | 1 << i);
                if same != m {
                    let pc = warp.cur.pc;
                    warp.split(m & !same, pc, State::Running);
                }
                self.enter(warp, call, callee, same)
            }
            Target::Builtin(builtin) => {
                self.builtin(warp, call, builtin, m)?;
                Ok(Next::Advance)
            }
        }
    }

    fn enter(&mut self, warp: &mut Warp, call: &Call, callee_id: usize, m: u32) -> Lane<Next> {
        let functions = &self.grid.module.functions;
        let old = warp.cur.base;
        let (caller, callee) = (&functions[old.function], &functions[callee_id]);
        let base = Base {
            function: callee_id,
            r32: old.r32 + caller.n32,
            r64: old.r64 + caller.n64,
            preds: old.preds + caller.n_preds,
            local: (old.local + caller.local_bytes).next_multiple_of(16),
        };
        if base.local + callee.local_bytes > MAX_LOCAL_BYTES || warp.cur.stack.len() >= MAX_DEPTH {
            return fail(m.trailing_zeros(), Fault::StackOverflow);
        }
        let (grid, block_idx, index) = (self.grid, self.block_idx, warp.index);
        warp.enter(callee, base, m, |constant| grid.constants(constant, block_idx, index, base.local));
        for (&(from, bytes), &(to, _)) in call.args.iter().zip(&callee.params) {
            warp.copy_local(m, old.local + from, base.local + to, bytes);
        }
        let call_pc = warp.cur.pc;
        warp.cur.stack.push(Return { base: old, call_pc });
        warp.cur.base = base;
        warp.cur.pc = callee.entry_pc;
        Ok(Next::Moved)
    }

    pub(crate) fn ret(&mut self, warp: &mut Warp, m: u32) -> Lane<Next> {
        Self::leave_behind(warp, m);
        let Some(back) = warp.cur.stack.pop() else {
            self.end(warp, m)?;
            return Ok(Next::Moved);
        };
        let callee = &self.grid.module.functions[warp.cur.base.function];
        if let Op::Call(call) = &self.grid.module.code[back.call_pc as usize].op {
            for (&(to, bytes), &(from, _)) in call.results.iter().zip(&callee.returns) {
                warp.copy_local(m, warp.cur.base.local + from, back.base.local + to, bytes);
            }
        }
        warp.cur.base = back.base;
        warp.cur.pc = back.call_pc + 1;
        Ok(Next::Moved)
    }

    /// Functions without a body.
    fn builtin(&mut self, warp: &mut Warp, call: &Call, builtin: Builtin, m: u32) -> Lane<()> {
        let frame = warp.cur.base.local;
        let at = |slots: &[(u32, u32)], index: usize| slots.get(index).map_or(frame, |slot| frame + slot.0) as usize;
        for lane in (0..LANES).filter(|lane| m >> lane & 1 == 1) {
            match builtin {
                Builtin::Printf => {
                    let [text, list] = [0, 1].map(|index| warp.local_load(lane, at(&call.args, index), 8));
                    let n = self.print(warp, lane, text, list);
                    warp.local_store(lane, at(&call.results, 0), 4, u64::from(n as u32));
                }
                Builtin::Free => {
                    let address = warp.local_load(lane, at(&call.args, 0), 8);
                    if address != 0 && !self.memory.give_to_heap(address) {
                        let req = Request { lane, access: Access::Write, home: Home::Global, address, bytes: 1 };
                        return req.fault(MemoryFault::OutOfBounds);
                    }
                }
                Builtin::Malloc => {
                    let bytes = warp.local_load(lane, at(&call.args, 0), 8);
                    warp.local_store(lane, at(&call.results, 0), 8, self.memory.take_from_heap(bytes));
                }
                Builtin::AssertFail => {
                    let text = |index| {
                        let start = warp.local_load(lane, at(&call.args, index), 8);
                        String::from_utf8_lossy(&self.text(warp, lane, start, MAX_SHOWN)).into_owned()
                    };
                    let line = warp.local_load(lane, at(&call.args, 2), 4);
                    let message = format!("`{}` failed at {}:{line}, in {}", text(0), text(1), text(3));
                    return fail(lane as u32, Fault::Assertion { message });
                }
            }
        }
        Ok(())
    }

    /// `vprintf`: gives the number of arguments, or -1 for no format.
    ///
    /// **Source** CUDA programming guide, formatted output.
    fn print(&self, warp: &Warp, lane: usize, text: u64, list: u64) -> i32 {
        if text == 0 {
            return -1;
        }
        let layout = self.text(warp, lane, text, MAX_TEXT);
        let (out, n) = format(&layout, &mut Passed { env: self, warp, lane, at: list });
        self.memory.print(&out);
        n
    }

    /// Bytes up to a zero at a generic address, at most so many; what cannot be read ends them.
    fn text(&self, warp: &Warp, lane: usize, start: u64, most: usize) -> Vec<u8> {
        let bytes = (0..most as u64).map_while(|i| self.peek(warp, lane, start.wrapping_add(i), 1));
        bytes.map(|byte| byte as u8).take_while(|&byte| byte != 0).collect()
    }

    /// What lies at a generic address; `None` if it cannot be read.
    fn peek(&self, warp: &Warp, lane: usize, address: u64, bytes: u32) -> Option<u64> {
        let (home, address) = resolve(MemSpace::Generic, address);
        let mut out = [0];
        let req = Request { lane, access: Access::Read, home, address, bytes };
        self.load(warp, req, bytes, &mut out).is_ok().then_some(out[0])
    }
}

/// Arguments of `vprintf`: one after the other, each aligned to its size.
struct Passed<'a> {
    env: &'a Env<'a>,
    warp: &'a Warp,
    lane: usize,
    at: u64,
}

impl Source for Passed<'_> {
    fn next(&mut self, bytes: u32) -> Option<u64> {
        let size = u64::from(bytes);
        let start = self.at.checked_next_multiple_of(size)?;
        self.at = start.checked_add(size)?;
        self.env.peek(self.warp, self.lane, start, bytes)
    }

    fn text(&mut self, address: u64, most: usize) -> Vec<u8> {
        self.env.text(self.warp, self.lane, address, most.min(MAX_TEXT))
    }
}

impl Warp {
    /// Copies whole words of local memory for lanes in `m`.
    fn copy_local(&mut self, m: u32, from: u32, to: u32, bytes: u32) {
        for word in 0..bytes.div_ceil(4) {
            let row = self.local[(from / 4 + word) as usize];
            let target = &mut self.local[(to / 4 + word) as usize];
            for lane in 0..LANES {
                if m == ALL || m >> lane & 1 == 1 {
                    target[lane] = row[lane];
                }
            }
        }
    }
}
