//! Bundle files: raw, and a manifest with images under a header whose lengths and hash are right.

#![no_main]

use enel_bundle::{Bundle, Step, flops, layout};
use enel_fuzz::{bounded, seal};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    bounded(input, || {
        read(input);
        read(&seal::seal(input));
    });
});

/// Reads a bundle and what `inspect` shows of it.
fn read(bytes: &[u8]) {
    let Ok(bundle) = Bundle::from_bytes(bytes) else { return };
    let written = bundle.to_bytes().expect("a bundle that is read is written");
    assert_eq!(Bundle::from_bytes(&written).expect("a bundle that is written is read"), bundle);
    bundle.kernels.iter().for_each(|kernel| drop(kernel.to_string()));
    for plan in &bundle.plans {
        drop(plan.to_string());
        let symbols: Vec<i64> = plan.symbols.iter().map(|symbol| symbol.smallest()).collect();
        plan.symbols.check(&symbols).expect("the smallest values are in bounds");
        let _ = layout(plan, &symbols);
        for step in plan.bind.iter().chain(&plan.steps) {
            let Step::Call(call) = step else { continue };
            let sizes: Result<Vec<i64>, _> = call.dynamics.iter().map(|size| size.eval(&symbols)).collect();
            let Ok(sizes) = sizes else { continue };
            let kernel = &bundle.kernels[call.kernel as usize];
            for (desc, own) in kernel.descs().zip(kernel.split_dynamics(&sizes)) {
                flops(desc, own).expect("a part gets its own sizes");
            }
        }
    }
}
