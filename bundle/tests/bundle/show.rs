//! The text of kernels and plans is stable.

use crate::sample;

#[test]
fn a_kernel_prints_as_it_is_read() {
    let text = sample::bundle().kernels[0].to_string();
    let expected = "\
kernel add_one: map
  b0: read f32
  b1: write f32
  n0: up to 1048576 in steps of 1
  space [n0]
  program:
    %0 = axis 0
    %1 = load b0[%0]
    %2 = float 1.0
    %3 = add %1, %2
    b1[%0] = %3
  config threads=256
  launch add_one: ceil(n0 / 256) blocks, 256 threads, 0 B dynamic smem
";
    assert_eq!(text, expected);
}

#[test]
fn a_plan_prints_as_it_runs() {
    let expected = "\
plan prefill
  symbol T: 1..=64 in steps of 1
  b0: input \"x\" f32[T, 8]
  b1: weight \"w\" f32[4, 8]
  b2: bound f32[4, 8]
  b3: temp f32[T, 8]
  b4: output \"y\" f32[T, 4]
  b5: state \"count\" f32[1]
  b6: temp f32[1]
  bind:
    0: k0(b1, b2) sizes (32)
  steps:
    0: k0(b0, b3) sizes (8*T)
    1: k1(b3, b2, b4) sizes (T)
    2: k0(b5, b6) sizes (1)
    3: copy b6 to b5
  give \"y\" = b4
  give \"count\" = b5
";
    assert_eq!(sample::plan().to_string(), expected);
}
