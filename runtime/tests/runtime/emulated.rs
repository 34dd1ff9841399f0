//! Plans on the emulator, with PTX written by hand: equal results, and mistakes are caught at their buffer.

use crate::{numbers, plans, session, tensors};
use enel_bundle::{Bundle, Extent, Grid, Image, ImageKind, Launch, Plan, Step};
use enel_runtime::{Device, DeviceError, OpenError, RunError, Session};
use enel_types::DType;
use std::sync::Arc;

/// `out[i] = x[i] + 1` for `i < n0 - CUT`; a thread a element, 32 a block.
const ADD_ONE: &str = "
.version 8.0
.target sm_80
.address_size 64

.visible .entry add_one(.param .u64 x, .param .u64 out, .param .u64 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<5>;
    .reg .f32 %f<3>;
    .reg .b64 %rd<10>;
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [out];
    ld.param.u64 %rd3, [n];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    cvt.u64.u32 %rd4, %r4;
    add.s64 %rd3, %rd3, CUT;
    setp.ge.s64 %p1, %rd4, %rd3;
    @%p1 bra DONE;
    shl.b64 %rd5, %rd4, 2;
    add.s64 %rd6, %rd1, %rd5;
    ld.global.f32 %f1, [%rd6];
    add.f32 %f2, %f1, 0f3F800000;
    add.s64 %rd7, %rd2, %rd5;
    st.global.f32 [%rd7], %f2;
DONE:
    ret;
}
";

/// A plan of two steps, `x + 1 + 1`, whose kernel handles `cut` elements more than there are.
pub(crate) fn bundle(cut: i64) -> Bundle {
    let mut bundle = plans::bundle();
    bundle.kernels.truncate(1);
    let grids = vec![Grid(vec![(vec![Extent::Dyn(0)], 32)])];
    bundle.kernels[0].launch =
        Some(Launch { entry: "add_one".into(), grids, threads: 32, smem_bytes: 0, scratch_bytes: 0 });
    let ptx = ADD_ONE.replace("CUT", &cut.to_string());
    let image =
        |target: &str, kind, bytes: &[u8]| Image { kernel: 0, target: target.into(), kind, bytes: bytes.into() };
    bundle.images =
        vec![image("sm_90a", ImageKind::Cubin, b"\x7fELF"), image("compute_80", ImageKind::Ptx, ptx.as_bytes())];
    let whole = &bundle.plans[0];
    let count = [whole.steps[3].clone(), whole.steps[4].clone()];
    let mut plan = Plan { bind: vec![], steps: count.to_vec(), outputs: whole.outputs[2..].to_vec(), ..whole.clone() };
    let Step::Call(call) = &whole.steps[0] else { unreachable!() };
    let mut second = call.clone();
    second.buffers = vec![3, 4];
    plan.buffers[4].shape = plan.buffers[3].shape.clone();
    plan.steps.extend([Step::Call(call.clone()), Step::Call(second)]);
    plan.outputs.push(whole.outputs[0].clone());
    bundle.plans = vec![plan];
    bundle
}

fn emulated(bundle: Bundle) -> Session {
    session(bundle, Device::open("emulated").unwrap())
}

#[test]
fn the_emulator_gives_what_the_cpu_gives() {
    let mut machine = emulated(bundle(0));
    let mut cpu = session(bundle(0), Device::open("cpu:1").unwrap());
    // Nothing to bind: the plan declares weights but no step reads one.
    for t in [5, 1, 40, 5] {
        let inputs = tensors(&[("x", numbers(&[t, 8], t))]);
        let symbols = [("T", t as i64), ("B", 2)];
        let got = machine.run("prefill", &symbols, &inputs).unwrap();
        assert_eq!(got, cpu.run("prefill", &symbols, &inputs).unwrap());
        assert_eq!(got["y"].to_f32().unwrap()[0], numbers(&[t, 8], t).to_f32().unwrap()[0] + 2.0);
    }
    let count = machine.state("count").unwrap().read().unwrap();
    assert_eq!(count.to_f32().unwrap(), [4.0; 2]);
}

#[test]
fn a_kernel_that_leaves_its_buffer_is_caught() {
    let mut session = emulated(bundle(1));
    let inputs = tensors(&[("x", numbers(&[2, 8], 0))]);
    let error = session.run("prefill", &[("T", 2), ("B", 2)], &inputs).unwrap_err();
    let RunError::Step { source, place, .. } = error else { panic!("{error}") };
    assert_eq!(place, "step 0, `add_one`");
    assert!(matches!(*source, DeviceError::Emulated { .. }), "{source}");
}

#[test]
fn a_kernel_that_leaves_elements_out_is_caught() {
    let mut session = emulated(bundle(-1));
    let inputs = tensors(&[("x", numbers(&[2, 8], 0))]);
    // The copy carries the unwritten byte into the state, the next run would read it; the last step reads one at once.
    let error = session.run("prefill", &[("T", 2), ("B", 2)], &inputs).unwrap_err();
    let unwritten = match &error {
        RunError::Device { source, .. } => matches!(**source, DeviceError::Unwritten { size_bytes: 64 }),
        other => panic!("{other}"),
    };
    assert!(unwritten, "{error}");
}

#[test]
fn a_bundle_without_text_does_not_load() {
    let mut cubin_only = bundle(0);
    cubin_only.images.truncate(1);
    let load = |bundle: Bundle| Session::new(Arc::new(bundle), Device::open("emulated").unwrap()).unwrap_err();
    let OpenError::Load { source, kernel, .. } = load(cubin_only) else { panic!() };
    assert_eq!(kernel, "add_one");
    assert!(matches!(*source, DeviceError::NoImage { found, .. } if found == ["sm_90a"]));
    let mut garbage = bundle(0);
    garbage.images[1].bytes = b".version nonsense".to_vec();
    assert!(matches!(load(garbage), OpenError::Load { .. }));
    let mut cpu_only = bundle(0);
    cpu_only.kernels[0].launch = None;
    assert!(matches!(load(cpu_only), OpenError::Load { .. }));
    assert_eq!(plans::add_one(DType::F32), bundle(0).kernels[0].parts[0].desc);
}
