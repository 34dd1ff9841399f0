//! Which axes does a contraction pair, keep and sum? An einsum over two operands, checked once.

use std::fmt;

/// Axis letters of a two-operand contraction, as in `bmk,bnk->bmn`.
///
/// Every output letter comes from an operand; a letter in both operands and not in the output is summed; a letter in
/// both and in the output is a batch axis; a letter of one operand must be in the output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContractSpec {
    lhs: Vec<char>,
    rhs: Vec<char>,
    out: Vec<char>,
}

impl ContractSpec {
    /// Reads `lhs,rhs->out`.
    ///
    /// # Errors
    /// A sentence saying which rule the text breaks.
    pub fn parse(text: &str) -> Result<ContractSpec, String> {
        let form = || format!("`{text}` is not of the form `mk,nk->mn`");
        let (operands, out) = text.split_once("->").ok_or_else(form)?;
        let (lhs, rhs) = operands.split_once(',').ok_or_else(form)?;
        let letters = |part: &str| -> Result<Vec<char>, String> {
            let list: Vec<char> = part.trim().chars().collect();
            if !list.iter().all(char::is_ascii_lowercase) {
                return Err(form());
            }
            match list.iter().enumerate().find(|(i, c)| list[..*i].contains(c)) {
                Some((_, c)) => Err(format!("letter `{c}` stands twice in `{part}`")),
                None => Ok(list),
            }
        };
        let spec = ContractSpec { lhs: letters(lhs)?, rhs: letters(rhs)?, out: letters(out)? };
        if let Some(c) = spec.out.iter().find(|c| !spec.lhs.contains(c) && !spec.rhs.contains(c)) {
            return Err(format!("output letter `{c}` is in no operand"));
        }
        for (one, other) in [(&spec.lhs, &spec.rhs), (&spec.rhs, &spec.lhs)] {
            if let Some(c) = one.iter().find(|c| !other.contains(c) && !spec.out.contains(c)) {
                return Err(format!("letter `{c}` is summed in one operand only; use reduce_sum"));
            }
        }
        Ok(spec)
    }

    /// Letters of the left operand's axes.
    pub fn lhs(&self) -> &[char] {
        &self.lhs
    }

    /// Letters of the right operand's axes.
    pub fn rhs(&self) -> &[char] {
        &self.rhs
    }

    /// Letters of the result's axes.
    pub fn out(&self) -> &[char] {
        &self.out
    }

    /// Letters in both operands and the result, in result order.
    pub fn batch(&self) -> Vec<char> {
        self.out.iter().copied().filter(|c| self.lhs.contains(c) && self.rhs.contains(c)).collect()
    }

    /// Letters of the left operand alone, in result order: the M axes.
    pub fn rows(&self) -> Vec<char> {
        self.out.iter().copied().filter(|c| !self.rhs.contains(c)).collect()
    }

    /// Letters of the right operand alone, in result order: the N axes.
    pub fn cols(&self) -> Vec<char> {
        self.out.iter().copied().filter(|c| !self.lhs.contains(c)).collect()
    }

    /// Summed letters in the left operand's order: the K axes.
    pub fn summed(&self) -> Vec<char> {
        self.lhs.iter().copied().filter(|c| !self.out.contains(c)).collect()
    }
}

impl fmt::Display for ContractSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |list: &[char]| list.iter().collect::<String>();
        write!(f, "{},{}->{}", s(&self.lhs), s(&self.rhs), s(&self.out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_follow_from_letters() {
        let s = ContractSpec::parse("bgmk,bnk->bmgn").unwrap();
        assert_eq!((s.batch(), s.rows(), s.cols(), s.summed()), (vec!['b'], vec!['m', 'g'], vec!['n'], vec!['k']));
        assert_eq!(s.to_string(), "bgmk,bnk->bmgn");
    }

    #[test]
    fn broken_specs_say_why() {
        for (text, part) in
            [("mk,nk", "form"), ("mm,nk->mn", "twice"), ("mk,nk->mz", "no operand"), ("mk,n->mn", "one")]
        {
            assert!(ContractSpec::parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
