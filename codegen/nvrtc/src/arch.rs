//! Which GPU is a compile for? `sm_80`, `sm_90a`, `compute_80`.
//!
//! A real architecture (`sm_`) yields a cubin beside the PTX, a virtual one (`compute_`) PTX only. Whether the compiler
//! at hand knows the number is asked of the compiler, not of a table here.

use std::fmt;
use std::str::FromStr;

/// A target as `--gpu-architecture` spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arch {
    real: bool,
    number: u16,
    suffix: Option<Suffix>,
}

/// **Source** CUDA C++ Programming Guide 13.0, "Feature set compiler targets": `a` (architecture specific) exists from
/// compute capability 9.0 on, `f` (family specific) from 10.0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Suffix {
    Architecture,
    Family,
}

/// A text that names no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no GPU architecture; expected sm_80, sm_90a, compute_80 or alike")]
pub struct ArchError {
    /// What was given.
    pub text: String,
}

impl Arch {
    /// Ampere, A100: the oldest card a bundle carries a cubin for.
    pub const SM_80: Arch = Arch { real: true, number: 80, suffix: None };
    /// Hopper with its warpgroup instructions.
    pub const SM_90A: Arch = Arch { real: true, number: 90, suffix: Some(Suffix::Architecture) };
    /// PTX that every card from Ampere on can take.
    pub const COMPUTE_80: Arch = Arch { real: false, number: 80, suffix: None };

    /// True for `sm_XX`: the compile makes a cubin and a report.
    pub fn is_real(self) -> bool {
        self.real
    }

    /// The same with PTX as its only result: `compute_90a` for `sm_90a`.
    pub fn to_virtual(self) -> Arch {
        Arch { real: false, ..self }
    }

    /// The compute capability times ten, 80 for `sm_80`.
    pub fn number(self) -> u16 {
        self.number
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.real { "sm" } else { "compute" };
        let suffix = match self.suffix {
            None => "",
            Some(Suffix::Architecture) => "a",
            Some(Suffix::Family) => "f",
        };
        write!(f, "{kind}_{}{suffix}", self.number)
    }
}

impl FromStr for Arch {
    type Err = ArchError;

    fn from_str(text: &str) -> Result<Arch, ArchError> {
        let bad = || ArchError { text: text.to_owned() };
        let (real, rest) = match (text.strip_prefix("sm_"), text.strip_prefix("compute_")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(bad()),
        };
        let (digits, suffix) = match (rest.strip_suffix('a'), rest.strip_suffix('f')) {
            (Some(digits), _) => (digits, Some(Suffix::Architecture)),
            (None, Some(digits)) => (digits, Some(Suffix::Family)),
            (None, None) => (rest, None),
        };
        let two_or_three_digits = matches!(digits.len(), 2 | 3) && digits.bytes().all(|b| b.is_ascii_digit());
        if !two_or_three_digits || digits.starts_with('0') {
            return Err(bad());
        }
        let number = digits.parse().map_err(|_| bad())?;
        let first_with_suffix = match suffix {
            None => 0,
            Some(Suffix::Architecture) => 90,
            Some(Suffix::Family) => 100,
        };
        if number < first_with_suffix {
            return Err(bad());
        }
        Ok(Arch { real, number, suffix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_print() {
        for text in ["sm_80", "sm_90a", "compute_80", "sm_100a", "sm_120f", "compute_90a"] {
            assert_eq!(text.parse::<Arch>().unwrap().to_string(), text);
        }
        assert_eq!("sm_80".parse(), Ok(Arch::SM_80));
        assert_eq!("sm_90a".parse(), Ok(Arch::SM_90A));
        assert_eq!("compute_80".parse(), Ok(Arch::COMPUTE_80));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "sm_", "sm_8", "sm_080", "sm_8x", "sm80", "SM_80", "compute_", "sm_80aa", "sm_9999", "sm_+80",
            "sm_80a", "sm_90f",
        ] {
            assert!(text.parse::<Arch>().is_err(), "{text}");
        }
    }
}
