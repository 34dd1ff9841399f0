//! Are a bundle's own kernels right? Each distinct one as its plans call it, at small sizes, with the code the bundle carries.

use super::Summary;
use super::prove::{Lost, Settings, prove};
use super::runner::Runner;
use anyhow::Result;
use enel_bundle::{Bundle, Desc};
use enel_verify::{Call, Case, Limit, Nearness, draw_call};
use proptest::prelude::{Strategy, any};
use std::collections::HashSet;
use std::fmt;

/// Sizes go this far beyond their smallest, in steps of what they are multiples of.
const MAX_SIZE: i64 = 70;
/// Bytes of one call's buffers.
const MAX_BYTES: usize = 256 << 20;

/// What a call is drawn from; prints as the call.
struct Draw<'a> {
    bundle: &'a Bundle,
    kernel: usize,
    from: (i64, u64),
    limit: Limit,
}

impl Draw<'_> {
    fn call(&self) -> Result<Call, enel_verify::CallError> {
        draw_call(self.bundle, self.kernel, self.from, self.limit)
    }
}

impl fmt::Debug for Draw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call() {
            Ok(call) => write!(f, "{}, data seed {}", call.what, self.from.1),
            Err(error) => write!(f, "{error}"),
        }
    }
}

/// Proves each kernel whose meaning no earlier one has; `work` bounds the scalar instructions of one evaluation.
pub fn verify(runner: &mut Runner, bundle: &Bundle, (settings, work): (Settings, u64)) -> Summary {
    let limit = Limit { instructions: work, bytes: MAX_BYTES };
    let mut summary = Summary::default();
    let mut seen: HashSet<Vec<&Desc>> = HashSet::new();
    for (at, kernel) in bundle.kernels.iter().enumerate() {
        let mut skip = |reason: String| summary.skipped.push((kernel.name.clone(), reason));
        if !seen.insert(kernel.descs().collect()) {
            skip("an earlier kernel computes the same".to_owned());
            continue;
        }
        if runner.is_lost() {
            skip(Lost.to_string());
            continue;
        }
        if let Err(error) = draw_call(bundle, at, (0, settings.seed), limit) {
            skip(error.to_string());
            continue;
        }
        let draw = |(size, seed)| Draw { bundle, kernel: at, from: (size, seed), limit };
        let strategy = (0..=MAX_SIZE, any::<u64>().no_shrink()).prop_map(draw);
        let family = kernel.family();
        let proof = prove((&kernel.name, &family), &strategy, settings, |draw| {
            let call = draw.call()?;
            let parts: Vec<&Case> = call.cases.iter().map(|(case, _)| case).collect();
            let results = runner.run(bundle, at, &parts)?;
            let mut worst = Nearness::default();
            for ((case, near), got) in call.cases.iter().zip(&results) {
                let ratio = case.compare(got, *near)?;
                worst = if ratio > worst { ratio } else { worst };
            }
            Ok(worst)
        });
        summary.proofs.push(proof);
    }
    summary
}
