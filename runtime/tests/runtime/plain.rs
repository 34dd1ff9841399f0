//! A device of the plainest kind: evaluates map, reduce and contract bodies element by element, records, replays and
//! counts. Freed memory is gone, so a recording that outlives its buffers fails.

use enel_bundle::{AccOp, Body, Bundle, ContractBody, Desc, Extent, Instr, Program, ReduceBody, Store};
use enel_runtime::{Arg, Backend, BufferId, DeviceError, GraphId, KernelId, Slice};
use enel_types::{BinaryOp, DType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Larger allocations fail.
    pub(crate) limit_bytes: Option<usize>,
    /// The next fill fails.
    pub(crate) fail_fill: bool,
    /// The next launch fails.
    pub(crate) fail_launch: bool,
    pub(crate) allocations: usize,
    pub(crate) live: usize,
    pub(crate) launches: usize,
    pub(crate) replays: usize,
}

#[derive(Clone)]
enum Op {
    Launch(KernelId, Vec<Arg>, Vec<i64>),
    Copy(Slice, Slice),
}

#[derive(Default)]
pub(crate) struct PlainDevice {
    pub(crate) counts: Arc<Mutex<Counts>>,
    buffers: BTreeMap<u32, Vec<u8>>,
    kernels: Vec<Desc>,
    recording: Option<Vec<Op>>,
    graphs: Vec<Option<Vec<Op>>>,
}

type Done<T = ()> = Result<T, DeviceError>;

#[derive(Clone, Copy, Debug)]
enum Scalar {
    Float(f32),
    Int(i64),
}

impl Scalar {
    fn float(self) -> f32 {
        match self {
            Scalar::Float(x) => x,
            Scalar::Int(_) => unreachable!("checked programs keep kinds apart"),
        }
    }

    fn int(self) -> i64 {
        match self {
            Scalar::Int(x) => x,
            Scalar::Float(_) => unreachable!("checked programs keep kinds apart"),
        }
    }
}

impl PlainDevice {
    fn bytes(&mut self, slice: Slice) -> Done<&mut [u8]> {
        let unknown = DeviceError::Unknown { what: "buffer", id: slice.buffer.0 };
        let range = slice.offset_bytes..slice.offset_bytes + slice.size_bytes;
        self.buffers.get_mut(&slice.buffer.0).and_then(|b| b.get_mut(range)).ok_or(unknown)
    }

    fn perform(&mut self, op: &Op) -> Done {
        match op {
            Op::Copy(from, to) => {
                let bytes = self.bytes(*from)?.to_vec();
                self.bytes(*to)?.copy_from_slice(&bytes);
            }
            Op::Launch(kernel, args, dynamics) => {
                self.counts.lock().unwrap().launches += 1;
                let desc = self.kernels[kernel.0 as usize].clone();
                let memory: Done<Vec<Vec<u8>>> = args.iter().map(|a| Ok(self.bytes(a.slice)?.to_vec())).collect();
                for ((arg, at), bytes) in run(&desc, &memory?, dynamics) {
                    self.bytes(args[arg].slice)?[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        Ok(())
    }
}

type Writes = Vec<((usize, usize), Vec<u8>)>;

struct Call<'a> {
    desc: &'a Desc,
    memory: &'a [Vec<u8>],
    dynamics: &'a [i64],
    writes: Writes,
}

fn run(desc: &Desc, memory: &[Vec<u8>], dynamics: &[i64]) -> Writes {
    let mut call = Call { desc, memory, dynamics, writes: Vec::new() };
    match &desc.body {
        Body::Map(b) => {
            for point in call.points(&[&b.space]) {
                call.store(&b.program, &point, &[], &b.stores);
            }
        }
        Body::Reduce(b) => call.reduce(b),
        Body::Contract(b) => call.contract(b),
        other => unimplemented!("{}", other.family()),
    }
    call.writes
}

impl Call<'_> {
    fn points(&self, parts: &[&[Extent]]) -> Vec<Vec<i64>> {
        let mut points = vec![Vec::new()];
        for extent in parts.iter().copied().flatten() {
            let n = extent.value(self.dynamics);
            points = points.iter().flat_map(|p| (0..n).map(move |i| [p.as_slice(), &[i]].concat())).collect();
        }
        points
    }

    fn eval(&self, program: &Program, point: &[i64], accs: &[Scalar]) -> Vec<Scalar> {
        let mut regs: Vec<Scalar> = Vec::new();
        for instr in program.instrs() {
            let value = match *instr {
                Instr::Axis(n) => Scalar::Int(point[n as usize]),
                Instr::Float(bits) => Scalar::Float(f32::from_bits(bits)),
                Instr::Int(n) => Scalar::Int(n),
                Instr::Size(n) => Scalar::Int(self.dynamics[n as usize]),
                Instr::Load { buffer, index } => self.load(buffer as usize, regs[index.0 as usize].int() as usize),
                Instr::Acc(n) => accs[n as usize],
                Instr::Binary(op, x, y) => match (op, regs[x.0 as usize], regs[y.0 as usize]) {
                    (BinaryOp::Add, Scalar::Float(x), Scalar::Float(y)) => Scalar::Float(x + y),
                    (BinaryOp::Add, Scalar::Int(x), Scalar::Int(y)) => Scalar::Int(x + y),
                    (BinaryOp::Mul, Scalar::Int(x), Scalar::Int(y)) => Scalar::Int(x * y),
                    other => unimplemented!("{other:?}"),
                },
                Instr::Bool(_) | Instr::Unary(..) | Instr::Select(..) | Instr::Cast(..) => unimplemented!("{instr:?}"),
            };
            regs.push(value);
        }
        regs
    }

    fn load(&self, buffer: usize, index: usize) -> Scalar {
        let bytes = &self.memory[buffer];
        match self.desc.buffers[buffer].dtype {
            DType::F32 => Scalar::Float(f32::from_ne_bytes(bytes[index * 4..][..4].try_into().unwrap())),
            DType::BF16 => {
                Scalar::Float(half::bf16::from_ne_bytes(bytes[index * 2..][..2].try_into().unwrap()).to_f32())
            }
            other => unimplemented!("{other}"),
        }
    }

    fn store(&mut self, program: &Program, point: &[i64], accs: &[Scalar], stores: &[Store]) {
        let regs = self.eval(program, point, accs);
        for Store { buffer, index, value } in stores {
            let at = regs[index.0 as usize].int() as usize * 4;
            let bytes = regs[value.0 as usize].float().to_ne_bytes();
            self.writes.push(((*buffer as usize, at), bytes.to_vec()));
        }
    }

    fn reduce(&mut self, b: &ReduceBody) {
        for outer in self.points(&[&b.outer]) {
            let mut accs: Vec<Option<f32>> = vec![None; b.accs.len()];
            for inner in self.points(&[&b.inner]) {
                let regs = self.eval(&b.element, &[outer.as_slice(), &inner].concat(), &[]);
                for (acc, spec) in accs.iter_mut().zip(&b.accs) {
                    let x = regs[spec.value.0 as usize].float();
                    *acc = Some(match (spec.op, *acc) {
                        (_, None) => x,
                        (AccOp::Max, Some(old)) => old.max(x),
                        (AccOp::Sum, Some(old)) => old + x,
                        (op, _) => unimplemented!("{op}"),
                    });
                }
            }
            let accs: Vec<Scalar> = accs.into_iter().map(|a| Scalar::Float(a.unwrap_or(0.0))).collect();
            self.store(&b.epilogue, &outer, &accs, &b.stores);
        }
    }

    fn contract(&mut self, b: &ContractBody) {
        assert!(b.batch.is_empty() && b.fold.is_none());
        for row in self.points(&[&b.rows]) {
            for col in self.points(&[&b.cols]) {
                let mut sum = 0.0;
                for k in self.points(&[&b.summed]) {
                    let x = self.eval(&b.lhs.program, &[row.as_slice(), &k].concat(), &[]);
                    let y = self.eval(&b.rhs.program, &[col.as_slice(), &k].concat(), &[]);
                    sum += x[b.lhs.reg.0 as usize].float() * y[b.rhs.reg.0 as usize].float();
                }
                self.store(&b.epilogue, &[row.as_slice(), &col].concat(), &[Scalar::Float(sum)], &b.stores);
            }
        }
    }
}

impl Backend for PlainDevice {
    fn name(&self) -> String {
        "plain".into()
    }

    fn allocate(&mut self, size_bytes: usize) -> Done<BufferId> {
        let mut counts = self.counts.lock().unwrap();
        if counts.limit_bytes.is_some_and(|limit| size_bytes > limit) {
            return Err(DeviceError::OutOfMemory { size_bytes });
        }
        counts.allocations += 1;
        counts.live += 1;
        let id = counts.allocations as u32;
        // Not zero, so that nobody relies on it.
        self.buffers.insert(id, vec![0xab; size_bytes]);
        Ok(BufferId(id))
    }

    fn free(&mut self, buffer: BufferId) {
        assert!(self.buffers.remove(&buffer.0).is_some(), "freed twice");
        self.counts.lock().unwrap().live -= 1;
    }

    fn upload(&mut self, to: Slice, bytes: &[u8]) -> Done {
        self.bytes(to)?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, from: Slice, bytes: &mut [u8]) -> Done {
        bytes.copy_from_slice(self.bytes(from)?);
        Ok(())
    }

    fn copy(&mut self, from: Slice, to: Slice) -> Done {
        let op = Op::Copy(from, to);
        match &mut self.recording {
            Some(ops) => ops.push(op),
            None => self.perform(&op)?,
        }
        Ok(())
    }

    fn fill(&mut self, slice: Slice, byte: u8) -> Done {
        let failing = std::mem::take(&mut self.counts.lock().unwrap().fail_fill);
        if failing {
            return Err(DeviceError::NoCapture);
        }
        self.bytes(slice)?.fill(byte);
        Ok(())
    }

    fn load(&mut self, bundle: &Bundle, kernel: usize) -> Done<KernelId> {
        self.kernels.push(bundle.kernels[kernel].parts[0].desc.clone());
        Ok(KernelId(self.kernels.len() as u32 - 1))
    }

    fn launch(&mut self, kernel: KernelId, args: &[Arg], dynamics: &[i64]) -> Done {
        let failing = std::mem::take(&mut self.counts.lock().unwrap().fail_launch);
        if failing {
            return Err(DeviceError::NoCapture);
        }
        let op = Op::Launch(kernel, args.to_vec(), dynamics.to_vec());
        match &mut self.recording {
            Some(ops) => ops.push(op),
            None => self.perform(&op)?,
        }
        Ok(())
    }

    fn together(&mut self, work: &mut (dyn FnMut(&mut dyn Backend) + Send)) {
        work(self);
    }

    fn synchronize(&mut self) -> Done {
        Ok(())
    }

    fn begin_capture(&mut self) -> Done<bool> {
        assert!(self.recording.replace(Vec::new()).is_none(), "recording twice");
        Ok(true)
    }

    fn end_capture(&mut self) -> Done<GraphId> {
        self.graphs.push(self.recording.take());
        Ok(GraphId(self.graphs.len() as u32 - 1))
    }

    fn replay(&mut self, graph: GraphId) -> Done {
        self.counts.lock().unwrap().replays += 1;
        let ops = self.graphs[graph.0 as usize].clone().ok_or(DeviceError::NoCapture)?;
        ops.iter().try_for_each(|op| self.perform(op))
    }

    fn drop_graph(&mut self, graph: GraphId) {
        assert!(self.graphs[graph.0 as usize].take().is_some(), "dropped twice");
    }
}
