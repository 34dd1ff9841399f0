//! Is every family right? Calls drawn over all its templates, each a kernel compiled for the device.

use super::Summary;
use super::prove::{Lost, Proof, Settings, prove};
use super::runner::Runner;
use anyhow::{Context, Result};
use enel_verify::draw::{Drawn, Family};
use enel_verify::{Case, Data};

/// Proves each of `families`.
pub fn verify(runner: &mut Runner, families: &[Family], settings: Settings) -> Summary {
    let mut summary = Summary::default();
    for family in families {
        if runner.is_lost() {
            let reason = Lost.to_string();
            summary.skipped.push((family.name().to_owned(), reason));
            continue;
        }
        let proof = one(*family, settings, |case| {
            let bundle = runner.compile(&case.desc)?;
            let results = runner.run(&bundle, 0, &[case])?;
            results.into_iter().next().context("a kernel without parts")
        });
        summary.proofs.push(proof);
    }
    summary
}

/// Proves one family; `run` gives what the buffers of a call hold after it.
pub fn one(family: Family, settings: Settings, mut run: impl FnMut(&Case) -> Result<Vec<Data>>) -> Proof {
    prove((family.name(), family.name()), &family.strategy(), settings, |Drawn { case, near, .. }| {
        Ok(case.compare(&run(&case)?, near)?)
    })
}
