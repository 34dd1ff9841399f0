//! Do the patterns of the settings mean something? A typing error would train another model than was meant.

use crate::error::StartError;
use enel_ir::{Graph, InputKind};
use enel_model::train::{Adapters, Trainable};
use std::collections::BTreeSet;

/// Parts only some objectives have; files are shared between stages, so patterns may name them in vain.
const OPTIONAL: [&str; 3] = ["_head", "mask_token", "pos_embed"];

/// Refuses patterns no weight of `forward` fits, and matrices that are to learn and to have factors.
///
/// # Errors
/// [`StartError::Pattern`], [`StartError::Both`].
pub(crate) fn check(forward: &Graph, trainable: &Trainable) -> Result<(), StartError> {
    let weights = forward.inputs().filter(|(_, _, kind)| *kind == InputKind::Weight);
    let names: BTreeSet<&str> = weights.map(|(_, name, _)| name).collect();
    let example = || names.iter().next().map_or_else(String::new, |&name| name.to_owned());
    let is_optional = |pattern: &str| OPTIONAL.iter().any(|part| pattern.contains(part));
    for pattern in trainable.patterns.iter().filter(|pattern| !is_optional(pattern)) {
        if !names.iter().any(|name| fits(pattern, name)) {
            let pattern = pattern.clone();
            return Err(StartError::Pattern { key: "trainable.patterns", pattern, example: example() });
        }
    }
    let Some(adapters) = &trainable.adapters else { return Ok(()) };
    // Only what is multiplied has factors in the graph; tables that are looked up have none.
    let is_adapted = |name: &str| adapters.of(name).is_some_and(|[a, _]| names.contains(a.as_str()));
    for pattern in &adapters.patterns {
        let one = Adapters { patterns: vec![pattern.clone()], ..adapters.clone() };
        if !names.iter().any(|name| one.of(name).is_some() && is_adapted(name)) {
            return Err(StartError::Pattern { key: "lora.patterns", pattern: pattern.clone(), example: example() });
        }
    }
    let learns = |name: &str| trainable.patterns.iter().any(|pattern| fits(pattern, name));
    match names.iter().find(|name| is_adapted(name) && learns(name)) {
        Some(&name) => Err(StartError::Both { name: name.to_owned() }),
        None => Ok(()),
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    Trainable { patterns: vec![pattern.to_owned()], ..Trainable::all() }.has(name)
}
