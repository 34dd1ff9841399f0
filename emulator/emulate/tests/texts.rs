//! Is a CUDA text taken as its author has it: with what the toolkit includes unasked, and with its host code?

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod common;

use common::{chain, compiler, f32s, out, program, run};
use enel_emulate::{Array, ArrayType, CudaOptions, Job, Program, Value};

const KERNEL: &str = "__global__ void k(int* o) { o[threadIdx.x] = 1; }\n";

/// Runs kernel `k` of a text on four threads.
fn values(source: &str) -> Option<Vec<i32>> {
    let program = program("text.cu", source, "sm_90a", &[])?;
    let args = [out(ArrayType::I32, 4)];
    Some(run(&program, &Job { block: [4, 1, 1], ..Job::new("k", &args) }).array(0).unwrap().to_i32().unwrap())
}

/// What the compiler says of a text.
fn refusal(source: &str) -> Option<String> {
    Some(chain(&Program::from_cuda(compiler()?, "text.cu", source, &CudaOptions::default()).unwrap_err()))
}

#[test]
fn numbers_and_their_functions_are_there_unasked() {
    let uses = [
        "-INFINITY < 0 && NAN != NAN && HUGE_VALF > 1 && HUGE_VAL > 1",
        "M_PI > 3 && M_SQRT1_2 < 1 && INT_MAX + INT_MIN == -1 && UINT_MAX > 0 && FLT_MAX < DBL_MAX",
        "std::min(3, 1) && std::max(0, 1) && std::max({0, 3, 1}) == 3 && std::clamp(5, 0, 1)",
        "std::sqrt(4.0f) == 2 && std::abs(-1.5f) == 1.5f && std::abs(-2) == 2 && std::isnan(NAN) && sqrt(t + 4) >= 2",
        "sizeof(uint32_t) == 4 && sizeof(uintptr_t) == 8 && sizeof(ulong) == 8 && sizeof(ushort) == 2 && sizeof(size_t) == 8",
        "std::is_same<int, int>::value && sizeof(unsigned __int128) == 16",
    ];
    for use_ in uses {
        let source = format!("__global__ void k(int* o) {{ int t = threadIdx.x; o[t] = {use_}; }}\n");
        for before in ["", "#include <cuda_runtime.h>\n#include <cmath>\n"] {
            let Some(values) = values(&format!("{before}{source}")) else { return };
            assert_eq!(values, [1; 4], "{use_}");
        }
    }
}

#[test]
fn a_text_may_have_its_own_names() {
    for own in [
        "#define M_PI 3.0f\n#define max(a, b) ((a) > (b) ? (a) : (b))\n__device__ int two() { return max(1, 2); }\n",
        "#ifndef INFINITY\n#error it is missing\n#endif\n#ifndef UINT_MAX\n#error it is missing\n#endif\n",
        "template <class T> __device__ T min(T a, T b, T c) { return a < b ? a : c; }\nusing namespace std;\n",
        "typedef unsigned long uint64_t;\nnamespace std { template <class T> struct is_integral; }\n",
        "__managed__ int total;\n__device__ int more() { return ++total; }\n",
        "typedef unsigned int uint32_t;\ntypedef unsigned int uint;\n#define NAN 0\n",
    ] {
        let Some(values) = values(&format!("{own}{KERNEL}")) else { return };
        assert_eq!(values, [1; 4], "{own}");
    }
}

#[test]
fn host_code_of_any_kind_is_left_out() {
    let includes =
        "#include <vector>\n#include <string>\n#include <complex>\n#include <thread>\n#include <stdbool.h>\n";
    for host in [
        "class Net { std::vector<float> w; public: Net(); };\nNet::Net() : w(5), n{3} {}\nvoid Net::run(float* x) {}\n",
        "using namespace std;\nstring name = \"x\"; vector<int> v;\nvoid show(vector<int> v, string s) { cout << v[0]; }\n",
        "using Vec = std::vector<float>;\nvoid f(Vec& v) { v.push_back(1); }\n",
        "struct Cfg { std::string name; int n = 3; };\nCfg make() { return Cfg(); }\nstatic Cfg cfg = make();\n",
        "struct B { virtual void run(const std::string& s) = 0; };\nstruct C : B { void run(const std::string&) {} };\nC c;\n",
        "float* h = new float[10]; float* h2 = (float*)malloc(10); int dev = cudaGetDevice(&dev);\n",
        "template <class T> struct M { T* p; friend std::ostream& operator<<(std::ostream& o, const M& m) { return o; }\n\
         __device__ T& at(int i) { return p[i]; } };\n__device__ int two(M<int>& m) { return m.at(2); }\n",
        "template <class T> class Buf { std::vector<T> v; public: __device__ T* get() { return d; } T* d; };\n",
        "__attribute__((noinline)) int h3() { return rand(); }\nbool operator==(const dim3& a, const dim3& b) { return rand(); }\n",
        "namespace app { int counter = rand(); void tick(int n = 3) { counter += n; getchar(); } }\n",
        "std::atomic<int> hits; std::mutex lock; auto now() { return time(nullptr); }\n",
    ] {
        let Some(values) = values(&format!("{includes}{host}{KERNEL}")) else { return };
        assert_eq!(values, [1; 4], "{host}");
    }
}

#[test]
fn errors_in_kernels_are_told_and_those_of_host_code_are_not() {
    let host = "#include <vector>\nusing namespace std;\nvector<string> names;\nvoid show(vector<int> v) { cout << v.size(); }\n";
    let Some(text) = refusal(&format!("{host}__global__ void k(int* o) {{\n  int y = 3\n  o[0] = y;\n}}\n")) else {
        return;
    };
    assert!(text.contains("text.cu") && text.contains("1 error") && text.contains("line 7"), "{text}");
    // What went because of its error is to blame where device code misses it.
    let helper = "int helper(int x) {\n  return x + missing;\n}\n__global__ void k(int* o) { o[0] = helper(3); }\n";
    let text = refusal(&format!("{host}{helper}")).unwrap();
    assert!(text.contains("1 error") && text.contains("line 6") && text.contains("\"missing\""), "{text}");
}

#[test]
fn a_whole_program_gives_its_kernels() {
    let Some(program) = program("whole.cu", include_str!("kernels/whole.cu"), "sm_90a", &[]) else { return };
    let params: Vec<u8> = [4u32, 2f32.to_bits(), 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    let args = [f32s([0.0, 1.0, 2.0, 3.0]), out(ArrayType::F32, 4), Value::Bytes(params)];
    let report = run(&program, &Job { block: [4, 1, 1], ..Job::new("kernel", &args) });
    // The square twice, 3 of the table, 2 of the grid, 1 of the mode, 2 of the device's table.
    assert_eq!(report.array(1).unwrap().to_f32().unwrap(), [8.0, 10.0, 16.0, 26.0]);
    let args = [Value::InOut(Array::from_i32(&[1, 2, 3, 4]))];
    let report = run(&program, &Job { block: [4, 1, 1], ..Job::new("k_int", &args) });
    assert_eq!(report.array(0).unwrap().to_i32().unwrap(), [2, 3, 4, 5]);
}

#[test]
fn headers_in_brackets_are_read_and_absent_ones_are_done_without() {
    let folder = std::env::temp_dir().join(format!("enel-texts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // One with host code around what the kernel needs, one that is for hosts only.
    let parts = "#include <string>\nstd::string name() { return std::string(strlen(\"a\"), 'x'); }\n__device__ int one() { return 1; }\n";
    std::fs::write(folder.join("parts.h"), parts).unwrap();
    std::fs::write(folder.join("helper_cuda.h"), "#error for hosts\n").unwrap();
    let source = "#include <helper_cuda.h>\n#include <parts.h>\n#include \"nowhere/runner.cuh\"\n#include <cublas_v2.h>\n\
        int main() { runner::run(name()); }\n__device__ __nv_bfloat16 half_of_it;\n\
        __global__ void k(int* o) { o[threadIdx.x] = one(); }\n\
        template <class T> __global__ void shape(T* o) {}\n";
    let options = CudaOptions { folders: vec![folder.clone()], ..CudaOptions::default() };
    let Some(compiler) = compiler() else { return };
    let program = Program::from_cuda(compiler, "text.cu", source, &options).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(program.absent_headers(), ["nowhere/runner.cuh"]);
    let args = [out(ArrayType::I32, 4)];
    let report = run(&program, &Job { block: [4, 1, 1], ..Job::new("k", &args) });
    assert_eq!(report.array(0).unwrap().to_i32().unwrap(), [1; 4]);
    let unknown = program.kernel("none").unwrap_err().to_string();
    assert!(unknown.contains("k(int*), instances of shape"), "{unknown}");
    // What a kernel misses may have been in it.
    let source = source.replace("one();", "two();");
    let error = chain(&Program::from_cuda(compiler, "text.cu", &source, &options).unwrap_err());
    assert!(error.contains("runner.cuh") && error.contains("\"two\""), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}
