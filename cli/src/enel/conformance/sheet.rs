//! What is said of a tensor? One row each: errors, tolerance, verdict.
//!
//! Law: NaN is within no tolerance, and a tensor nothing computed is `unsupported`, never `ok`.

use serde_json::{Value, json};

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Within the tolerance.
    Ok,
    /// Beyond it, or not comparable.
    Fail,
    /// Nothing here computes it.
    Unsupported,
}

impl Status {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Fail => "FAIL",
            Status::Unsupported => "unsupported",
        }
    }
}

/// Errors of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Largest absolute difference.
    pub max_abs: f64,
    /// `|ours - theirs| / |theirs|` over the tensor.
    pub relative_l2: f64,
    /// What the relative error may be; 0 means equal.
    pub tolerance: f64,
}

impl Errors {
    /// Compares values of equal count.
    pub fn of(ours: &[f64], theirs: &[f64], tolerance: f64) -> Errors {
        let (mut max_abs, mut squared, mut norm) = (0.0f64, 0.0f64, 0.0f64);
        for (a, b) in ours.iter().zip(theirs) {
            // Equal infinities have no difference.
            let difference = if a == b { 0.0 } else { (a - b).abs() };
            max_abs = if difference > max_abs || difference.is_nan() { difference } else { max_abs };
            squared += difference * difference;
            norm += b * b;
        }
        let relative_l2 = if squared == 0.0 { 0.0 } else { (squared / norm).sqrt() };
        Errors { max_abs, relative_l2, tolerance }
    }

    /// True when the relative error is allowed.
    pub fn within(&self) -> bool {
        self.relative_l2 <= self.tolerance
    }
}

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// File stem of the case.
    pub case: String,
    /// Tensor, or what else was compared.
    pub tensor: String,
    /// Its shape in the file.
    pub shape: Option<Vec<usize>>,
    /// How far off it is.
    pub errors: Option<Errors>,
    /// The verdict.
    pub status: Status,
    /// `device`, `interpreter` or `host`.
    pub computed_on: Option<&'static str>,
    /// Why, if it is not ok.
    pub detail: String,
}

impl Row {
    /// The line in columns, the tensor's name taking `name_width`.
    pub fn line(&self, name_width: usize) -> String {
        let shape = self.shape.as_ref().map_or("-".to_owned(), |shape| {
            let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
            format!("[{}]", extents.join(","))
        });
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2e}"));
        let tolerance = match &self.errors {
            None => "-".to_owned(),
            Some(errors) if errors.tolerance == 0.0 => "exact".to_owned(),
            Some(errors) => format!("{:.0e}", errors.tolerance),
        };
        format!(
            "{:<16} {:<name_width$} {:<14} {:>8} {:>8} {:>5} {}",
            self.case,
            self.tensor,
            shape,
            number(self.errors.map(|e| e.max_abs)),
            number(self.errors.map(|e| e.relative_l2)),
            tolerance,
            self.status.name()
        )
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        json!({
            "case": self.case,
            "tensor": self.tensor,
            "shape": self.shape,
            "max_abs": self.errors.map(|e| e.max_abs),
            "relative_l2": self.errors.map(|e| e.relative_l2),
            "tolerance": self.errors.map(|e| e.tolerance),
            "status": self.status.name(),
            "computed_on": self.computed_on,
            "detail": self.detail,
        })
    }
}

/// How many rows came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows within their tolerance.
    pub n_ok: usize,
    /// Rows beyond it.
    pub n_fail: usize,
    /// Rows nothing computes.
    pub n_unsupported: usize,
}

impl Summary {
    /// Counts a row.
    pub fn count(&mut self, row: &Row) {
        match row.status {
            Status::Ok => self.n_ok += 1,
            Status::Fail => self.n_fail += 1,
            Status::Unsupported => self.n_unsupported += 1,
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "ok": self.n_ok, "fail": self.n_fail, "unsupported": self.n_unsupported })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total = self.n_ok + self.n_fail + self.n_unsupported;
        write!(f, "{total} rows: {} ok, {} FAIL, {} unsupported", self.n_ok, self.n_fail, self.n_unsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_golden_values() {
        let e = Errors::of(&[1.0, 2.0], &[1.0, 2.5], 0.19);
        assert_eq!(e.max_abs, 0.5);
        assert!((e.relative_l2 - 0.5 / 7.25f64.sqrt()).abs() < 1e-12);
        assert!(e.within());
        assert!(!Errors { tolerance: 0.18, ..e }.within());
    }

    #[test]
    fn nan_and_a_difference_from_zero_are_never_within() {
        assert!(!Errors::of(&[f64::NAN], &[1.0], 1.0).within());
        assert!(!Errors::of(&[1.0, 0.0], &[f64::NAN, 0.0], 1.0).within());
        assert!(!Errors::of(&[1e-9], &[0.0], 1.0).within());
        assert!(Errors::of(&[0.0], &[0.0], 0.0).within());
        assert!(!Errors::of(&[3.0], &[4.0], 0.0).within());
    }
}
