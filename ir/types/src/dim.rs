//! How large is an axis? Polynomials with integer coefficients over named dimensions, in one canonical form.
//!
//! Law: two `Dim`s are equal exactly when they are the same polynomial, so shape checks are `==`. Symbols have bounds;
//! every extent a verified graph uses is at least 1 for every binding inside them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Index of a named dimension in a [`Symbols`] table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SymId(pub u32);

/// A named dimension whose value the host gives at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    /// Name in the text format; unique in its table.
    pub name: String,
    /// Smallest allowed value, at least 1.
    pub min: i64,
    /// Largest allowed value.
    pub max: i64,
    /// Every value is a multiple of this.
    pub multiple: i64,
}

/// The named dimensions of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbols(Vec<Symbol>);

/// Symbols of one program; they are found one after the other.
const MAX_SYMBOLS: usize = 256;

/// Terms of a size that is read, and symbols of a term: products of a hostile shape's extents grow without bound.
pub const MAX_TERMS: usize = 64;

/// What is wrong with a symbol or with the values given for a table of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DimError {
    /// A program has as many symbols as it may have.
    TooMany,
    /// Two symbols share a name.
    Duplicate(String),
    /// Bounds are not `1 <= min <= max`, `multiple < 1`, or no multiple of it lies within them.
    BadBounds(String),
    /// The number of values is not the number of symbols.
    Count {
        /// Symbols in the table.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A value lies outside its symbol's bounds or is no multiple of its step.
    OutOfBounds {
        /// The symbol, with its bounds.
        symbol: Symbol,
        /// The value given.
        value: i64,
    },
    /// A size expression does not fit i64.
    Overflow,
}

impl fmt::Display for DimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DimError::TooMany => write!(f, "a program has at most {MAX_SYMBOLS} symbols"),
            DimError::Duplicate(name) => write!(f, "symbol `{name}` is declared twice"),
            DimError::BadBounds(name) => {
                write!(f, "symbol `{name}` needs 1 <= min <= max <= 2^31 and a step of which some multiple is within")
            }
            DimError::Count { expected, got } => write!(f, "expected {expected} symbol values, got {got}"),
            DimError::OutOfBounds { symbol, value } => write!(
                f,
                "{} = {value} is outside {}..={} in steps of {}",
                symbol.name, symbol.min, symbol.max, symbol.multiple
            ),
            DimError::Overflow => f.write_str("a size does not fit 64 bits"),
        }
    }
}

impl std::error::Error for DimError {}

impl Symbol {
    /// The smallest value it can take.
    pub fn smallest(&self) -> i64 {
        // Bounds are below 2^31, so the sum cannot overflow.
        (self.min + self.multiple - 1) / self.multiple * self.multiple
    }

    fn is_sound(&self) -> bool {
        let bounds = 1..=1 << 31;
        [self.min, self.max, self.multiple].iter().all(|n| bounds.contains(n)) && self.smallest() <= self.max
    }
}

impl Symbols {
    /// Adds a symbol.
    ///
    /// # Errors
    /// [`DimError::TooMany`], [`DimError::Duplicate`], [`DimError::BadBounds`].
    pub fn add(&mut self, symbol: Symbol) -> Result<SymId, DimError> {
        if self.0.len() >= MAX_SYMBOLS {
            return Err(DimError::TooMany);
        }
        if self.find(&symbol.name).is_some() {
            return Err(DimError::Duplicate(symbol.name));
        }
        if !symbol.is_sound() {
            return Err(DimError::BadBounds(symbol.name));
        }
        self.0.push(symbol);
        Ok(SymId(self.0.len() as u32 - 1))
    }

    /// The symbol with this name.
    pub fn find(&self, name: &str) -> Option<SymId> {
        self.0.iter().position(|s| s.name == name).map(|i| SymId(i as u32))
    }

    /// The symbol behind an id of this table.
    pub fn get(&self, id: SymId) -> Option<&Symbol> {
        self.0.get(id.0 as usize)
    }

    /// All symbols in id order.
    pub fn iter(&self) -> impl Iterator<Item = &Symbol> {
        self.0.iter()
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks one value per symbol against bounds and steps.
    ///
    /// # Errors
    /// [`DimError::Count`], [`DimError::OutOfBounds`].
    pub fn check(&self, values: &[i64]) -> Result<(), DimError> {
        if values.len() != self.0.len() {
            return Err(DimError::Count { expected: self.0.len(), got: values.len() });
        }
        for (symbol, &value) in self.0.iter().zip(values) {
            if value < symbol.min || value > symbol.max || value % symbol.multiple != 0 {
                return Err(DimError::OutOfBounds { symbol: symbol.clone(), value });
            }
        }
        Ok(())
    }
}

/// A size: an integer polynomial over symbols. Prints as `2*B*T+1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dim {
    /// Sorted by monomial, no zero coefficient; a monomial is a sorted list of symbols, empty for the constant.
    terms: Vec<(Vec<SymId>, i64)>,
}

impl Dim {
    /// The constant `value`.
    pub fn constant(value: i64) -> Dim {
        Dim::canonical(vec![(Vec::new(), value)])
    }

    /// The value of one symbol.
    pub fn sym(id: SymId) -> Dim {
        Dim { terms: vec![(vec![id], 1)] }
    }

    /// The constant this is, if it mentions no symbol.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(symbols, value)] if symbols.is_empty() => Some(*value),
            _ => None,
        }
    }

    /// True for the constant `value`.
    pub fn is(&self, value: i64) -> bool {
        self.as_const() == Some(value)
    }

    fn canonical(mut terms: Vec<(Vec<SymId>, i64)>) -> Dim {
        terms.sort();
        let mut out: Vec<(Vec<SymId>, i64)> = Vec::with_capacity(terms.len());
        for (monomial, coefficient) in terms {
            match out.last_mut() {
                Some(last) if last.0 == monomial => last.1 = last.1.saturating_add(coefficient),
                Some(_) | None => out.push((monomial, coefficient)),
            }
        }
        out.retain(|t| t.1 != 0);
        Dim { terms: out }
    }

    /// `self + other`.
    pub fn add(&self, other: &Dim) -> Dim {
        Dim::canonical(self.terms.iter().chain(&other.terms).cloned().collect())
    }

    /// `self - other`.
    pub fn sub(&self, other: &Dim) -> Dim {
        self.add(&other.mul(&Dim::constant(-1)))
    }

    /// `self * other`.
    pub fn mul(&self, other: &Dim) -> Dim {
        let mut terms = Vec::with_capacity(self.terms.len() * other.terms.len());
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                let mut monomial = [a.as_slice(), b.as_slice()].concat();
                monomial.sort();
                terms.push((monomial, x.saturating_mul(*y)));
            }
        }
        Dim::canonical(terms)
    }

    /// The product of all extents of a shape; 1 for rank 0.
    pub fn product<'a>(shape: impl IntoIterator<Item = &'a Dim>) -> Dim {
        shape.into_iter().fold(Dim::constant(1), |p, d| p.mul(d))
    }

    /// Whether it has at most [`MAX_TERMS`] terms, each of at most as many symbols.
    pub fn is_short(&self) -> bool {
        self.terms.len() <= MAX_TERMS && self.terms.iter().all(|(monomial, _)| monomial.len() <= MAX_TERMS)
    }

    /// As [`Dim::product`], unless an extent or the product so far is not short.
    pub fn short_product<'a>(shape: impl IntoIterator<Item = &'a Dim>) -> Option<Dim> {
        let short = |dim: Dim| dim.is_short().then_some(dim);
        shape.into_iter().try_fold(Dim::constant(1), |p, d| if d.is_short() { short(p.mul(d)) } else { None })
    }

    /// `self / divisor` when the division leaves no rest as polynomials and the divisor is a single term.
    pub fn div_exact(&self, divisor: &Dim) -> Option<Dim> {
        let [(symbols, value)] = divisor.terms.as_slice() else { return None };
        let mut terms = Vec::with_capacity(self.terms.len());
        for (monomial, coefficient) in &self.terms {
            // The division of the smallest number by -1 has no result.
            if coefficient.checked_rem(*value)? != 0 {
                return None;
            }
            let mut rest = monomial.clone();
            for s in symbols {
                let at = rest.iter().position(|r| r == s)?;
                rest.remove(at);
            }
            terms.push((rest, coefficient / value));
        }
        Some(Dim::canonical(terms))
    }

    /// The size for given symbol values.
    ///
    /// # Errors
    /// [`DimError::Count`] when a symbol has no value, [`DimError::Overflow`].
    pub fn eval(&self, values: &[i64]) -> Result<i64, DimError> {
        let mut sum = 0i64;
        for (monomial, coefficient) in &self.terms {
            let mut term = *coefficient;
            for s in monomial {
                let count = DimError::Count { expected: s.0 as usize + 1, got: values.len() };
                let value = values.get(s.0 as usize).ok_or(count)?;
                term = term.checked_mul(*value).ok_or(DimError::Overflow)?;
            }
            sum = sum.checked_add(term).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }

    /// Smallest and largest value over all bindings, by interval arithmetic per term; saturates at i64.
    pub fn bounds(&self, symbols: &Symbols) -> (i64, i64) {
        let mut low = 0i64;
        let mut high = 0i64;
        for (monomial, coefficient) in &self.terms {
            let (mut a, mut b) = (1i64, 1i64);
            for s in monomial {
                let (min, max) = symbols.get(*s).map_or((1, i64::MAX), |s| (s.min, s.max));
                a = a.saturating_mul(min);
                b = b.saturating_mul(max);
            }
            let (x, y) = (coefficient.saturating_mul(a), coefficient.saturating_mul(b));
            low = low.saturating_add(x.min(y));
            high = high.saturating_add(x.max(y));
        }
        (low, high)
    }

    /// A number every value of this size is a multiple of (0 only for the size 0).
    pub fn divisor(&self, symbols: &Symbols) -> i64 {
        self.terms.iter().fold(0, |g, (monomial, coefficient)| {
            let steps = monomial.iter().filter_map(|s| symbols.get(*s)).map(|s| s.multiple);
            gcd(g, steps.fold(coefficient.saturating_abs(), i64::saturating_mul))
        })
    }

    /// The terms: coefficient and symbols of each, in canonical order.
    pub fn terms(&self) -> impl Iterator<Item = (i64, &[SymId])> {
        self.terms.iter().map(|(m, c)| (*c, m.as_slice()))
    }

    /// Renames symbols.
    pub fn map_symbols(&self, f: impl Fn(SymId) -> SymId) -> Dim {
        let rename = |(m, c): &(Vec<SymId>, i64)| {
            let mut m: Vec<SymId> = m.iter().map(|s| f(*s)).collect();
            m.sort();
            (m, *c)
        };
        Dim::canonical(self.terms.iter().map(rename).collect())
    }

    /// Prints with the names of `symbols`.
    pub fn display<'a>(&'a self, symbols: &'a Symbols) -> impl fmt::Display + 'a {
        Shown { dim: self, symbols }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim::constant(value)
    }
}

struct Shown<'a> {
    dim: &'a Dim,
    symbols: &'a Symbols,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dim.terms.is_empty() {
            return f.write_str("0");
        }
        // Symbols first, the constant last: `2*B+1`.
        for (i, (monomial, coefficient)) in self.dim.terms.iter().rev().enumerate() {
            let sign = if *coefficient < 0 {
                "-"
            } else if i > 0 {
                "+"
            } else {
                ""
            };
            f.write_str(sign)?;
            let size = coefficient.unsigned_abs();
            let names = monomial.iter().map(|s| self.symbols.get(*s).map_or("?", |s| s.name.as_str()));
            let mut parts: Vec<String> = names.map(str::to_owned).collect();
            if size != 1 || parts.is_empty() {
                parts.insert(0, size.to_string());
            }
            f.write_str(&parts.join("*"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Symbols, Dim, Dim) {
        let mut s = Symbols::default();
        let b = s.add(Symbol { name: "B".into(), min: 1, max: 8, multiple: 1 }).unwrap();
        let t = s.add(Symbol { name: "T".into(), min: 8, max: 64, multiple: 8 }).unwrap();
        (s, Dim::sym(b), Dim::sym(t))
    }

    #[test]
    fn every_symbol_has_a_value() {
        let add = |min, max, multiple| Symbols::default().add(Symbol { name: "S".into(), min, max, multiple });
        for (min, max, multiple) in [(0, 4, 1), (4, 2, 1), (1, 4, 0), (5, 7, 4), (1, 8, i64::MAX), (1, i64::MAX, 1)] {
            assert_eq!(add(min, max, multiple), Err(DimError::BadBounds("S".into())), "{min}..={max} step {multiple}");
        }
        assert!(add(5, 8, 4).is_ok());
        assert_eq!(Symbol { name: "S".into(), min: 5, max: 8, multiple: 4 }.smallest(), 8);
    }

    #[test]
    fn the_smallest_number_divided_by_minus_one_has_no_result() {
        assert_eq!(Dim::constant(i64::MIN).div_exact(&Dim::constant(-1)), None);
        assert_eq!(Dim::constant(i64::MIN).div_exact(&Dim::constant(2)), Some(Dim::constant(i64::MIN / 2)));
    }

    #[test]
    fn equal_polynomials_are_equal_values() {
        let (s, b, t) = table();
        let x = b.add(&t).mul(&b);
        let y = t.mul(&b).add(&b.mul(&b));
        assert_eq!(x, y);
        assert_eq!(x.sub(&y), Dim::constant(0));
        assert_eq!(x.display(&s).to_string(), "B*T+B*B");
        assert_eq!(x.eval(&[3, 16]).unwrap(), 57);
        assert_eq!(x.div_exact(&b), Some(b.add(&t)));
        assert_eq!(x.div_exact(&t), None);
        assert_eq!(b.mul(&Dim::constant(2)).add(&Dim::constant(1)).display(&s).to_string(), "2*B+1");
    }

    #[test]
    fn bounds_and_divisors_hold() {
        let (s, b, t) = table();
        let x = b.mul(&t).sub(&Dim::constant(4));
        assert_eq!(x.bounds(&s), (4, 508));
        assert_eq!(t.mul(&Dim::constant(3)).divisor(&s), 24);
        assert_eq!(x.divisor(&s), 4);
    }

    #[test]
    fn bindings_outside_the_bounds_are_refused() {
        let (s, ..) = table();
        assert!(s.check(&[1, 8]).is_ok());
        assert!(matches!(s.check(&[1, 9]), Err(DimError::OutOfBounds { value: 9, .. })));
        assert!(matches!(s.check(&[1]), Err(DimError::Count { .. })));
    }
}
