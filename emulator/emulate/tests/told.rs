//! Does a kernel's author read what is meant: what was printed, names as they were written, and what is wrong where?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{out, program, zeros_i32};
use enel_emulate::{ArrayType, Finding, Job, RunError};

const PRINTING: &str = r#"
namespace app {
template <class T, int N> __global__ void show(T* out) {
  int t = threadIdx.x;
  const char* name = t ? "one" : "zero";
  int n = printf("%-5s|%3d|%#x|%5.2f|%lld|%c%%\n", name, -t, 255 + t, 1.5 * t + N, 1ll << (40 + t), 'a' + t);
  out[t] = n + 10 * printf("done\n") + 100 * (printf(nullptr) == -1);
}
__global__ void broken(int* out) {
  out[threadIdx.x] = printf(threadIdx.x ? "%s\n" : (const char*)17, (const char*)~0ull);
  for (int i = 0; i < 40000; ++i) printf("%s", "0123456789012345678901234567890123456789");
}
__global__ void beyond(int* out) {
  __shared__ int s[4];
  printf("before\n");
  s[threadIdx.x] = out[0];
  out[s[threadIdx.x] + 5] = 1;
}
}
"#;

#[test]
fn what_a_kernel_prints_comes_back() {
    let Some(program) = program("told.cu", PRINTING, "sm_90a", &["app::show<int, 2>"]) else { return };
    let args = [out(ArrayType::I32, 2)];
    let job = Job { block: [2, 1, 1], ..Job::new("app::show<int, 2>", &args) };
    let report = program.run(&job).unwrap();
    let want = "zero |  0|0xff| 2.00|1099511627776|a%\none  | -1|0x100| 3.50|2199023255552|b%\ndone\ndone\n";
    assert_eq!(report.printed, want);
    assert_eq!(report.array(0).unwrap().to_i32().unwrap(), [106, 106]);
    // Pointers to nothing end a text, and what is printed is bounded.
    let report = program.run(&Job { kernel: "app::broken", ..job }).unwrap();
    assert!(report.printed.len() < 1_100_000 && report.printed.ends_with("is left out)\n"));
}

#[test]
fn findings_are_fields_and_names_are_those_of_cpp() {
    let Some(program) = program("told.cu", PRINTING, "sm_90a", &[]) else { return };
    let args = [zeros_i32(4)];
    let Err(RunError::Finding { finding, printed }) = program.run(&Job::new("app::beyond", &args)) else { panic!() };
    assert_eq!(printed, "before\n");
    let told = Finding::of(&finding);
    assert_eq!((told.kind, told.kernel.as_deref(), told.bytes), ("out-of-bounds", Some("app::beyond"), Some(4)));
    let (file, line) = told.place.unwrap().source.unwrap();
    let want = 1 + PRINTING.lines().position(|l| l.contains("+ 5] = 1")).unwrap() as u32;
    assert!(file.ends_with("told.cu") && line == want, "{file}:{line}");
    assert!(told.text.contains("kernel `app::beyond`"), "{}", told.text);
    // Parameters tell overloaded kernels apart.
    assert_eq!(program.kernel("app::beyond(int *)").unwrap(), program.kernel("app::beyond").unwrap());
    assert!(program.kernel("app::beyond(float*)").is_err());
    // A template that was not asked for is no riddle.
    let error = program.kernel("app::show").unwrap_err().to_string();
    assert!(error.contains("is a template") && error.contains("app::beyond(int*)"), "{error}");
}
