//! The text form and the graph are inverse; faults name their place.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use enel_ir::{Graph, VerifyError, parse, verify};

const SAMPLE: &str = r#"
; a line with everything
graph @sample {
  sym B in 1..=4
  sym T in 8..=64 step 8
  %x = input "x" : f32[B, T, 6]
  %w = weight "w" : bf16[12, 6]
  %cache = state "cache" : f32[2*T+B, 6]
  %c = const -inf : f32[]
  %l = const [1, 2, -3] : i32[3]
  %i = iota {axis = 0} : i32[T]
  %n = size_of {size = B*T-1} : f32[]
  %y = contract %x, %w {spec = "btc,dc->btd"}
  %r = relu %y
  %m = reduce_max %r {axes = [1], keep = true}
  %s = sub %r, %m
  %p = pad %s {low = [0, 1, 0], high = [0, 0, 2], value = 0}
  %v = slice %p {starts = [0, 1, 0], sizes = [B, T, 12], strides = [1, 1, 1]}
  %a = softmax %v {axis = 2}
  %t = topk %a {k = 3, largest = false}
  %rows = slice %x {starts = [0, 0, 0], sizes = [1, T, 6]}
  %rows2 = reshape %rows {shape = [T, 6]}
  %u = scatter %cache, %i, %rows2 {mode = set}
  return out = %a, "top k" = %t, cache = %u updates %cache
}
"#;

#[test]
fn printing_then_parsing_is_the_identity() {
    let graph = parse(SAMPLE).unwrap();
    verify(&graph).unwrap();
    let again = parse(&graph.to_string()).unwrap();
    assert_eq!(graph, again);
    assert_eq!(graph.to_string(), again.to_string());
}

fn faults(body: &str) -> Vec<VerifyError> {
    let graph = parse(&format!("graph @g {{\n{body}\n}}")).unwrap();
    verify(&graph).map(|_| ()).unwrap_err()
}

#[test]
fn every_fault_is_reported_with_its_node() {
    let list = faults(
        "%a = input \"a\" : f32[4, 3]\n%b = input \"a\" : i32[4]\n%c = add %a, %b : f32[4, 3]\n\
         %d = reduce_sum %a {axes = [7]} : f32[4]\n%e = neg %a : f32[3, 4]\nreturn x = %e, x = %c",
    );
    let text: Vec<String> = list.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 5, "{text:?}");
    assert!(text[0].starts_with("%2 = add breaks C1"), "{}", text[0]);
    assert!(text[1].starts_with("%3 = reduce_sum breaks C1"), "{}", text[1]);
    assert!(text[2].contains("inferred f32[4, 3]"), "{}", text[2]);
}

#[test]
fn state_may_not_be_read_after_its_update() {
    let list = faults(
        "%s = state \"s\" : f32[4]\n%o = const 1.0 : f32[4]\n%n = add %s, %o\n%late = mul %s, %n\n\
         return y = %late, s = %n updates %s",
    );
    assert!(matches!(list[..], [VerifyError::StaleState { .. }]), "{list:?}");
}

#[test]
fn unreadable_text_names_its_line() {
    for (text, line) in [
        ("graph @g {\n%a = input \"a\" : f32[4\nreturn a = %a\n}", 2),
        ("graph @g {\n%a = input \"a\" : f32[4]\n%b = frobnicate %a\nreturn a = %a\n}", 3),
        ("graph @g {\n%a = neg %b\n}", 2),
        ("graph @g {\nsym B in 4..=2\n}", 2),
        ("graph @g {\n%a = input \"a\" : f32[Q]\n}", 2),
        ("graph @g {\n%a = input \"a : f32[2]\n}", 2),
        ("", 1),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error} in {text}");
    }
}

/// A graph over `n` symbols `S0`, `S1`, ... of 1 to 4.
fn over_symbols(n: usize, body: &str) -> String {
    let symbols: String = (0..n).map(|i| format!("sym S{i} in 1..=4\n")).collect();
    format!("graph @g {{\n{symbols}{body}\nreturn y = %a\n}}")
}

#[test]
fn sizes_that_multiply_out_without_bound_are_refused() {
    let sum = |n: usize| (0..n).map(|i| format!("S{i}")).collect::<Vec<_>>().join(" + ");
    // The product of these has 1352078 terms of twelve factors each.
    let shape = vec![sum(12); 12].join(", ");
    let pairs: Vec<String> = (0..20).flat_map(|i| (0..i).map(move |j| format!("S{i}*S{j}"))).collect();
    let concat = "concat %s, %t {axis = 0}";
    for (n, body) in [
        (12, format!("%a = input \"a\" : f32[{shape}]")),
        (12, format!("%x = input \"x\" : f32[4]\n%a = reshape %x {{shape = [{shape}]}}")),
        (12, format!("%x = input \"x\" : f32[1]\n%a = broadcast %x {{shape = [{shape}]}}")),
        (20, format!("%a = input \"a\" : f32[{}]", pairs.join(" + "))),
        (1, format!("%a = input \"a\" : f32[{}]", ["S0"; 65].join("*"))),
        (
            100,
            format!(
                "%s = input \"s\" : f32[{}]\n%t = input \"t\" : f32[{}]\n%a = {concat}",
                sum(50),
                sum(100).split_off(sum(50).len() + 3)
            ),
        ),
        (257, "%a = input \"a\" : f32[1]".to_owned()),
        (1, format!("%a = iota {{{}}} : f32[S0]", (0..9).map(|i| format!("k{i} = 1")).collect::<Vec<_>>().join(", "))),
    ] {
        let error = parse(&over_symbols(n, &body)).unwrap_err().to_string();
        let words = ["terms", "breaks C1: ", "symbols", "attributes"];
        assert!(words.iter().any(|word| error.contains(word)), "{error}");
    }
    assert!(parse(&over_symbols(64, &format!("%a = input \"a\" : f32[{}]", sum(64)))).is_ok());
}

#[test]
fn the_op_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops.md");
    let page = enel_ir::ops_markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "run with BLESS=1 to rewrite ir/ops.md");
}

proptest::proptest! {
    #[test]
    fn cut_or_altered_text_never_panics(at in 0usize..1200, byte in 32u8..127) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let check = |text: &str| if let Ok(g) = parse(text) { let _ = verify(&g); };
        check(&String::from_utf8_lossy(&bytes));
        check(&String::from_utf8_lossy(&bytes[..at]));
    }
}

#[test]
fn an_empty_graph_is_no_program() {
    assert!(verify(&Graph::new("g", Default::default())).is_err());
}
