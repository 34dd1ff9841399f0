//! Does a real NVRTC do what this crate says of it? Skipped where none is found.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod found;

use std::num::NonZeroUsize;
use std::sync::Mutex;

use enel_nvrtc::{
    Arch, Cache, CompileError, Compiled, GateFault, Limits, Lookup, Options, Outcome, Severity, Unit, compile_all, gate,
};
use found::{compiler, unit};

const FILL: &str = "extern \"C\" __global__ void fill(float* y, float v, int n) {\n  int i = blockIdx.x * blockDim.x + threadIdx.x;\n  if (i < n) y[i] = v;\n}\n";

const MMA: &str = r#"#include <cuda_bf16.h>
#include <cuda_fp16.h>
extern "C" __global__ void mma_bf16(const unsigned* a, const unsigned* b, __nv_bfloat16* y, __half2* h) {
  float c[4] = {0.f, 0.f, 0.f, 0.f};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  y[threadIdx.x] = __float2bfloat16(c[0] + c[3]);
  h[threadIdx.x] = __hmax2(h[1], h2exp(h[2]));
}
"#;

/// Keeps 64 values alive over a loop that mixes them.
const PRESSURE: &str = r#"extern "C" __global__ void pressure(float* y, const float* x, int n) {
  float v[64];
#pragma unroll
  for (int i = 0; i < 64; i++) v[i] = x[i * n + threadIdx.x];
  for (int j = 0; j < n; j++) {
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = v[i] * v[(i * 7 + 3) % 64] + x[j];
  }
#pragma unroll
  for (int i = 0; i < 64; i++) y[i * n + threadIdx.x] = v[i];
}
"#;

/// Touches an accumulator between two asynchronous products and misses the fence.
const UNFENCED: &str = r#"extern "C" __global__ void __launch_bounds__(128)
unfenced(float* y, unsigned long long a, unsigned long long b) {
  float c[4] = {0.f, 0.f, 0.f, 0.f};
#define PRODUCT asm volatile("{.reg .pred p; setp.ne.b32 p, 1, 0;" \
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, p, 1, 1, 0, 0;}" \
    : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "l"(a), "l"(b))
  PRODUCT;
  c[0] += 1.f;
  PRODUCT;
  asm volatile("wgmma.commit_group.sync.aligned;");
  asm volatile("wgmma.wait_group.sync.aligned 0;");
  y[threadIdx.x] = c[0] + c[1] + c[2] + c[3];
}
"#;

#[test]
fn a_small_kernel_gives_ptx_cubin_and_report() {
    let Some(compiler) = compiler() else { return };
    let compiled = compiler.compile(&unit("fill", FILL, Arch::SM_80)).unwrap();
    assert!(compiled.ptx.contains(".visible .entry fill("));
    assert!(compiled.ptx.contains(".target sm_80"));
    assert!(compiled.cubin.as_ref().unwrap().starts_with(b"\x7fELF"));
    assert_eq!(compiled.report.len(), 1);
    let report = &compiled.report[0];
    assert_eq!(report.kernel, "fill");
    assert!((2..=32).contains(&report.registers), "{report:?}");
    assert_eq!((report.spill_store_bytes, report.spill_load_bytes, report.static_smem_bytes), (0, 0, 0));
    assert_eq!(gate(&compiled.report, &Limits::default()), []);
}

#[test]
fn a_virtual_architecture_gives_ptx_alone() {
    let Some(compiler) = compiler() else { return };
    let compiled = compiler.compile(&unit("fill", FILL, Arch::COMPUTE_80)).unwrap();
    assert!(compiled.ptx.contains(".visible .entry fill("));
    assert_eq!((compiled.cubin, compiled.report), (None, Vec::new()));
}

#[test]
fn tensor_cores_and_both_headers_compile_for_every_shipped_target() {
    let Some(compiler) = compiler() else { return };
    for arch in [Arch::SM_80, Arch::SM_90A, Arch::COMPUTE_80] {
        let compiled = compiler.compile(&unit("mma", MMA, arch)).unwrap();
        assert!(compiled.ptx.contains("mma.sync.aligned.m16n8k16"), "{arch}");
        assert_eq!(gate(&compiled.report, &Limits::default()), [], "{arch}");
    }
}

#[test]
fn results_repeat_and_hold_no_path_of_the_machine() {
    let Some(compiler) = compiler() else { return };
    let first = compiler.compile(&unit("mma", MMA, Arch::SM_80)).unwrap();
    assert_eq!(first, compiler.compile(&unit("mma", MMA, Arch::SM_80)).unwrap());
    let files: Vec<&str> = first.ptx.lines().filter(|line| line.trim().starts_with(".file")).collect();
    assert!(files.len() >= 2, "the unit and a header: {files:?}");
    assert!(files.iter().all(|line| line.contains("\"/enel/")), "{files:?}");
    let here = std::env::current_dir().unwrap();
    let here = here.to_str().unwrap().as_bytes();
    let cubin = first.cubin.unwrap();
    assert!(!cubin.windows(here.len()).any(|window| window == here));
}

#[test]
fn options_reach_the_compiler() {
    let Some(compiler) = compiler() else { return };
    let source = "extern \"C\" __global__ void k(float* y, float a, float b) { y[0] = y[1] * a + b; }\n";
    let ptx = |options| compiler.compile(&Unit { options, ..unit("k", source, Arch::SM_80) }).unwrap().ptx;
    assert!(ptx(Options::default()).contains("fma.rn.f32"));
    let separate = ptx(Options { fmad: false, ..Options::default() });
    assert!(
        separate.contains("mul.rn.f32") && separate.contains("add.rn.f32") && !separate.contains("fma"),
        "{separate}"
    );
    assert!(!ptx(Options { line_info: false, ..Options::default() }).contains(".loc"));
}

#[test]
fn a_syntax_error_shows_its_line_and_the_two_around_it() {
    let Some(compiler) = compiler() else { return };
    let source = "#include <cuda_bf16.h>\n\nextern \"C\" __global__ void k(int* y) {\n  int before = 1;\n  y[0] = wrong + before;\n  y[1] = 2\n  y[2] = 3;\n}\n";
    let error = compiler.compile(&unit("k", source, Arch::SM_80)).unwrap_err();
    let text = error.to_string();
    let CompileError::Source { kernel, diagnostics, source: kept } = error else { panic!("{error:?}") };
    assert_eq!((kernel.as_str(), kept.as_str()), ("k", source));
    let errors: Vec<_> = diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
    assert_eq!((errors[0].line, errors[0].column, &errors[0].file), (Some(5), Some(10), &None));
    assert!(errors[0].message.contains("wrong"));
    assert_eq!(errors[1].line, Some(7), "the semicolon is missed where the next word stands");
    for line in ["    4 |   int before = 1;", ">    5 |   y[0] = wrong + before;", "    6 |   y[1] = 2"] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

#[test]
fn an_error_about_a_header_names_the_header_and_the_line_of_the_call() {
    let Some(compiler) = compiler() else { return };
    let source = "#include <cuda_bf16.h>\n__global__ void k(__nv_bfloat16 a) {\n  __hmul(a);\n}\n";
    let error = compiler.compile(&unit("k", source, Arch::SM_80)).unwrap_err();
    let CompileError::Source { diagnostics, .. } = error else { panic!("{error:?}") };
    assert_eq!((diagnostics[0].line, &diagnostics[0].file), (Some(3), &None));
    assert!(diagnostics.iter().any(|d| d.file.as_deref() == Some("/enel/cuda_bf16.h")), "{diagnostics:?}");
}

#[test]
fn other_headers_cannot_be_included() {
    let Some(compiler) = compiler() else { return };
    for include in ["<cooperative_groups.h>", "\"Cargo.toml\"", "\"/etc/hostname\"", "<math_constants.h>"] {
        let source = format!("\n#include {include}\n");
        match compiler.compile(&unit("k", &source, Arch::SM_80)) {
            Err(CompileError::Source { diagnostics, .. }) => assert_eq!(diagnostics[0].line, Some(2), "{include}"),
            other => panic!("{include}: {other:?}"),
        }
    }
}

#[test]
fn an_assembler_error_is_led_back_to_the_source_line() {
    let Some(compiler) = compiler() else { return };
    let source =
        "extern \"C\" __global__ void k(int* y) {\n  y[0] = 1;\n  asm volatile(\"bad.inst %0;\" ::\"r\"(1));\n}\n";
    let error = compiler.compile(&unit("k", source, Arch::SM_80)).unwrap_err();
    let text = error.to_string();
    let CompileError::Assembly { diagnostics, .. } = error else { panic!("{error:?}") };
    assert_eq!(diagnostics[0].line, Some(3), "{diagnostics:?}");
    assert!(text.contains(">    3 |   asm volatile"), "{text}");
}

#[test]
fn too_much_static_shared_memory_is_said_though_the_compiler_is_silent() {
    let Some(compiler) = compiler() else { return };
    let source = "extern \"C\" __global__ void big(int* y) {\n  __shared__ int s[20000];\n  s[threadIdx.x] = 1;\n  __syncthreads();\n  y[0] = s[2];\n}\n";
    let error = compiler.compile(&unit("big", source, Arch::SM_80)).unwrap_err();
    assert!(error.to_string().contains("`big` has 80000 B of static shared memory, the limit is 49152 B"), "{error}");
    let CompileError::Assembly { report, .. } = error else { panic!("{error:?}") };
    let fault = GateFault::StaticSmem { kernel: "big".to_owned(), got_bytes: 80000, limit_bytes: 49152 };
    assert_eq!(gate(&report, &Limits::default()), [fault]);
}

#[test]
fn spills_are_reported_and_stopped_by_the_gate() {
    let Some(compiler) = compiler() else { return };
    let free = compiler.compile(&unit("pressure", PRESSURE, Arch::SM_80)).unwrap();
    assert_eq!(gate(&free.report, &Limits::default()), []);
    let options = Options { max_registers: Some(32), ..Options::default() };
    let tight = compiler.compile(&Unit { options, ..unit("pressure", PRESSURE, Arch::SM_80) }).unwrap();
    assert_eq!(tight.report[0].registers, 32);
    let faults = gate(&tight.report, &Limits::default());
    assert!(
        matches!(&faults[..], [GateFault::Spill { store_bytes, load_bytes, .. }] if *store_bytes > 0 && *load_bytes > 0),
        "{faults:?}"
    );
}

#[test]
fn spills_of_a_called_function_count_for_the_kernel() {
    let Some(compiler) = compiler() else { return };
    let called = PRESSURE.replace("extern \"C\" __global__ void pressure", "__device__ __noinline__ void pressure");
    let source = format!(
        "{called}extern \"C\" __global__ void a(float* y, const float* x, int n) {{ pressure(y, x, n); y[0] += 1.f; }}\n"
    );
    let options = Options { max_registers: Some(32), ..Options::default() };
    let compiled = compiler.compile(&Unit { options, ..unit("called", &source, Arch::SM_80) }).unwrap();
    assert_eq!(compiled.report.len(), 1);
    assert!(compiled.report[0].spill_store_bytes > 0, "{}", compiled.log);
}

#[test]
fn lost_performance_and_injected_fences_stop_at_the_gate() {
    let Some(compiler) = compiler() else { return };
    let compiled = compiler.compile(&unit("unfenced", UNFENCED, Arch::SM_90A)).unwrap();
    let notes = &compiled.report[0].notes;
    assert!(notes.iter().any(|note| note.contains("Potential Performance Loss")), "{}", compiled.log);
    assert!(notes.iter().any(|note| note.contains("is injected")), "{}", compiled.log);
    assert_eq!(gate(&compiled.report, &Limits::default()).len(), notes.len());
}

#[test]
fn unknown_architectures_and_nul_bytes_are_refused() {
    let Some(compiler) = compiler() else { return };
    let old = compiler.compile(&unit("k", FILL, "sm_35".parse().unwrap())).unwrap_err();
    assert!(matches!(old, CompileError::Arch { .. }), "{old}");
    let nul = compiler.compile(&unit("k", "int a;\0", Arch::SM_80)).unwrap_err();
    assert!(matches!(nul, CompileError::Nul { .. }), "{nul}");
    let name = compiler.compile(&unit("a b\0\"/../ü", FILL, Arch::SM_80)).unwrap();
    assert!(name.ptx.contains("\"/enel/a_b__"), "odd names are made plain");
}

#[test]
fn every_part_of_a_unit_changes_its_key() {
    let Some(compiler) = compiler() else { return };
    let base = unit("fill", FILL, Arch::SM_80);
    let options = base.options;
    let others = [
        unit("fill2", FILL, Arch::SM_80),
        unit("fill", MMA, Arch::SM_80),
        unit("fill", FILL, Arch::SM_90A),
        Unit { options: Options { fmad: false, ..options }, ..base },
        Unit { options: Options { line_info: false, ..options }, ..base },
        Unit { options: Options { max_registers: Some(64), ..options }, ..base },
    ];
    let keys: std::collections::HashSet<_> =
        others.iter().chain([&base]).map(|unit| compiler.key(unit).to_string()).collect();
    assert_eq!(keys.len(), others.len() + 1);
    assert_eq!(compiler.key(&base), compiler.key(&base));
    assert!(compiler.build().contains("13."), "{}", compiler.build());
}

#[test]
fn a_cache_hit_equals_the_compile_and_a_damaged_entry_is_repaired() {
    let Some(compiler) = compiler() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    let units = [unit("mma", MMA, Arch::SM_80), unit("fill", FILL, Arch::COMPUTE_80)];
    let outcomes = Mutex::new(Vec::new());
    let run = || -> (Vec<Compiled>, Vec<String>) {
        let one = NonZeroUsize::MIN;
        let all = compile_all(compiler, Some(&cache), &units, one, &|finished| {
            outcomes.lock().unwrap().push(format!("{:?}", finished.outcome));
        });
        (all.into_iter().map(Result::unwrap).collect(), std::mem::take(&mut outcomes.lock().unwrap()))
    };
    let (fresh, how) = run();
    assert_eq!(how, ["Compiled", "Compiled"]);
    let (cached, how) = run();
    assert_eq!(how, ["Hit", "Hit"]);
    assert_eq!(cached, fresh);

    let name = compiler.key(&units[0]).to_string();
    let entry = dir.path().join(&name[..2]).join(format!("{}.nvc", &name[2..]));
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&entry, bytes).unwrap();
    let (repaired, how) = run();
    assert_eq!(how, ["Repaired", "Hit"]);
    assert_eq!(repaired, fresh);
    assert_eq!(cache.get(&compiler.key(&units[0])).unwrap(), Lookup::Hit(fresh[0].clone()));
}

#[test]
fn threads_compile_at_once_and_results_keep_their_order() {
    let Some(compiler) = compiler() else { return };
    let names: Vec<String> = (0..12).map(|i| format!("fill_{i}")).collect();
    let sources: Vec<String> = names.iter().map(|name| FILL.replace("fill", name)).collect();
    let mut units: Vec<Unit<'_>> =
        names.iter().zip(&sources).map(|(name, source)| unit(name, source, Arch::SM_80)).collect();
    units[5].source = "not C++";
    let run = |threads| {
        let counts = Mutex::new(Vec::new());
        let all = compile_all(compiler, None, &units, NonZeroUsize::new(threads).unwrap(), &|finished| {
            assert_eq!(matches!(finished.outcome, Outcome::Failed), finished.name == "fill_5");
            counts.lock().unwrap().push(finished.n_done);
        });
        let mut counts = counts.into_inner().unwrap();
        counts.sort_unstable();
        assert_eq!(counts, (1..=12).collect::<Vec<_>>());
        all
    };
    let (one, many) = (run(1), run(4));
    for (at, (one, many)) in one.iter().zip(&many).enumerate() {
        match (one, many) {
            (Ok(one), Ok(many)) => {
                assert_eq!(one, many);
                assert_eq!(one.report[0].kernel, names[at]);
            }
            (Err(_), Err(CompileError::Source { kernel, .. })) => assert_eq!((at, kernel.as_str()), (5, "fill_5")),
            other => panic!("{at}: {other:?}"),
        }
    }
    assert!(compile_all(compiler, None, &[], NonZeroUsize::MIN, &|_| {}).is_empty());
}
