//! What may be wrong with a kernel? Its text with one fault: an instruction that orders is gone, or a whole number differs.
//!
//! Law: every instruction of a class and every number gives exactly one mutant, in the order of the text, and lines keep
//! their numbers. Only arithmetic whose result nothing reads, which compilers leave behind, gives none: there is nothing it
//! could get wrong. A number takes a few other values in turn, since the next one may mean the same. Whether a mutant is
//! caught is for its caller to see: who plants faults in a kernel learns which of them the checks and the cases at hand
//! would miss.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::error::ParseError;
use crate::syntax::lexer::{Located, Token, tokenize};

/// What a mutant lacks or has wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A barrier, fence, wait, commit or arrival does not happen.
    Order,
    /// An asynchronous group is waited for too late: one more may be on its way.
    Wait,
    /// A lane mask, a lane number or the bits of a logical instruction differ.
    Mask,
    /// The displacement of an address differs by one access.
    Offset,
    /// A number that another is compared with differs.
    Bound,
    /// Any other whole number differs.
    Number,
}

impl Fault {
    /// All of them, in the order of their names here.
    pub const ALL: [Fault; 6] = [Fault::Order, Fault::Wait, Fault::Mask, Fault::Offset, Fault::Bound, Fault::Number];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Order => "order",
            Fault::Wait => "wait",
            Fault::Mask => "mask",
            Fault::Offset => "offset",
            Fault::Bound => "bound",
            Fault::Number => "number",
        }
    }
}

/// One fault in one text, in one or more forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// PTX line, from 1.
    pub line: u32,
    /// Its class.
    pub fault: Fault,
    /// The instruction as it stands.
    pub was: String,
    /// What stands there instead: of a number other values, the nearest first; blank where the instruction is gone.
    pub forms: Vec<String>,
    /// What is replaced, as written.
    pub part: String,
    start: usize,
    place: Range<usize>,
}

impl Mutant {
    /// The text with form number `form` of the fault.
    ///
    /// # Panics
    /// There is no such form.
    pub fn apply(&self, ptx: &str, form: usize) -> String {
        [&ptx[..self.place.start], &self.forms[form], &ptx[self.place.end..]].concat()
    }

    /// The text with a trap before the instruction: it stops where any thread gets there.
    pub fn trap(&self, ptx: &str) -> String {
        [&ptx[..self.start], "trap; ", &ptx[self.start..]].concat()
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mutant { line, fault, was, forms, part, .. } = self;
        write!(f, "PTX line {line}, {}: `{was}`", fault.name())?;
        if *fault == Fault::Order {
            let form = forms.first().map_or("", |form| form.trim());
            return if form.is_empty() { write!(f, " gone") } else { write!(f, " as `{form}`") };
        }
        write!(f, " with {part} as {}", forms.join(", "))
    }
}

/// All mutants of a text, in its order.
///
/// # Errors
/// [`ParseError`]: the text cannot be cut into tokens.
pub fn mutants(ptx: &str) -> Result<Vec<Mutant>, ParseError> {
    let tokens = tokenize(ptx)?;
    let all = instructions(ptx, &tokens);
    let unread = unread(&all);
    let mut found = Vec::new();
    for (_, instruction) in all.iter().enumerate().filter(|(at, _)| !unread.contains(at)) {
        if instruction.orders() {
            found.push(instruction.without());
        }
        instruction.numbers(&mut found);
    }
    Ok(found)
}

/// All instructions of all functions; directives are none.
fn instructions<'a>(ptx: &'a str, tokens: &'a [Located<'a>]) -> Vec<Instruction<'a>> {
    let mut found = Vec::new();
    let (mut at, mut depth) = (0, 0);
    while let Some(first) = tokens.get(at) {
        match first.token {
            Token::Punct(b'{') => (at, depth) = (at + 1, depth + 1),
            Token::Punct(b'}') => (at, depth) = (at + 1, depth - 1),
            // A place in the source ends with its line.
            Token::Word(".loc" | ".file") => at += tokens[at..].iter().take_while(|t| t.line == first.line).count(),
            Token::Word(_) if matches!(tokens.get(at + 1), Some(next) if next.token == Token::Punct(b':')) => at += 2,
            _ if depth == 0 => at += 1,
            _ => {
                let length = tokens[at..].iter().position(|t| t.token == Token::Punct(b';'));
                let end = length.map_or(tokens.len(), |n| at + n);
                found.extend(instruction(ptx, &tokens[at..end]));
                at = end + 1;
            }
        }
    }
    found
}

fn instruction<'a>(ptx: &'a str, tokens: &'a [Located<'a>]) -> Option<Instruction<'a>> {
    let opcode = tokens.iter().position(|t| matches!(t.token, Token::Word(_)) && !ptx[t.start..].starts_with('%'));
    let opcode = opcode.filter(|&at| at == 0 || tokens[0].token == Token::Punct(b'@'))?;
    match tokens[opcode].token {
        Token::Word(name) if !name.starts_with('.') => {
            Some(Instruction { ptx, tokens, name, operands: &tokens[opcode + 1..] })
        }
        _ => None,
    }
}

/// Arithmetic whose result nothing reads, or only such arithmetic.
fn unread(all: &[Instruction<'_>]) -> HashSet<usize> {
    let mut unread = HashSet::new();
    // What stands once in a text, where it is written, is not read. Names of other functions count too: never too few.
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in all.iter().flat_map(Instruction::registers) {
        *uses.entry(name).or_default() += 1;
    }
    loop {
        let is_new = |at: &usize| !unread.contains(at);
        let more = all.iter().enumerate().filter(|(_, i)| i.result().is_some_and(|name| uses.get(name) == Some(&1)));
        let more: Vec<usize> = more.map(|(at, _)| at).filter(is_new).collect();
        if more.is_empty() {
            return unread;
        }
        for name in more.iter().flat_map(|&at| all[at].registers()) {
            uses.entry(name).and_modify(|n| *n -= 1);
        }
        unread.extend(more);
    }
}

/// Instructions that write a register and do nothing else.
const ARITHMETIC: [&str; 22] = [
    "add", "sub", "mul", "mad", "fma", "neg", "min", "max", "and", "or", "xor", "not", "lop3", "shl", "shr", "shf",
    "bfe", "bfi", "prmt", "mov", "cvt", "selp",
];

struct Instruction<'a> {
    ptx: &'a str,
    /// All of it, with its guard and without its semicolon.
    tokens: &'a [Located<'a>],
    /// Its opcode with all modifiers.
    name: &'a str,
    operands: &'a [Located<'a>],
}

impl<'a> Instruction<'a> {
    /// Registers it names, as often as it does.
    fn registers(&self) -> impl Iterator<Item = &'a str> {
        self.tokens.iter().filter_map(|t| match t.token {
            Token::Word(name) if name.starts_with('%') => Some(name),
            _ => None,
        })
    }

    /// The one register that it writes, where it does nothing else.
    fn result(&self) -> Option<&'a str> {
        let root = self.name.split('.').next().unwrap_or_default();
        let is_arithmetic = ARITHMETIC.contains(&root);
        match self.operands {
            [Located { token: Token::Word(name), .. }, Located { token: Token::Punct(b','), .. }, ..]
                if is_arithmetic =>
            {
                Some(name)
            }
            _ => None,
        }
    }

    fn mutant(&self, fault: Fault, place: Range<usize>, forms: Vec<String>) -> Mutant {
        let (start, end) = (self.tokens[0].start, self.tokens[self.tokens.len() - 1].end);
        let was = self.ptx[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
        let part = self.ptx[place.clone()].to_owned();
        Mutant { line: self.tokens[0].line, fault, was, forms, part, start, place }
    }

    /// Whether it says that something comes before something else, or that it may go on.
    fn orders(&self) -> bool {
        let whole = ["bar.", "barrier.", "membar.", "fence.", "mbarrier.", "wgmma.fence", "griddepcontrol."];
        let part = [".commit_group", ".wait_group", ".wait_all", ".commit", "cp.async.mbarrier"];
        // What stays without a value would not be read: to set up or take down is no order.
        let sets_up = [".inval", ".pending_count"].iter().any(|word| self.name.contains(word));
        !sets_up && (whole.iter().any(|w| self.name.starts_with(w)) || part.iter().any(|p| self.name.contains(p)))
    }

    /// It is gone; a wait that tells whether it is over says so at once.
    fn without(&self) -> Mutant {
        let place = self.tokens[0].start..self.tokens[self.tokens.len() - 1].end;
        let waits = self.name.contains("try_wait") || self.name.contains("test_wait");
        let text = match self.operands.first() {
            Some(Located { token: Token::Word(done), .. }) if waits => format!("setp.eq.s32 {done}, 0, 0"),
            // Lines keep their numbers.
            _ => "\n".repeat(self.ptx[place.clone()].matches('\n').count()),
        };
        self.mutant(Fault::Order, place, vec![text])
    }

    /// Every whole number of its operands, changed.
    fn numbers(&self, found: &mut Vec<Mutant>) {
        let root = self.name.split('.').next().unwrap_or_default();
        let waits = self.name.contains("wait_group");
        let names_only = ["bra", "brx", "call", "ret", "exit", "trap"].contains(&root);
        // A barrier's number is its name, and a copy's size decides its form.
        let forms = !waits && !self.name.starts_with("bar.warp") && ["bar", "barrier", "cp", "wgmma"].contains(&root);
        if names_only {
            return;
        }
        let (mut inside, mut operand) = (0, 0);
        for (at, token) in self.operands.iter().enumerate() {
            match token.token {
                Token::Punct(b'[') => inside += 1,
                Token::Punct(b']') => inside -= 1,
                Token::Punct(b',') if inside == 0 => operand += 1,
                Token::Int(bits) if inside > 0 || !forms => {
                    let minus = at > 0 && self.operands[at - 1].token == Token::Punct(b'-');
                    let start = if minus { self.operands[at - 1].start } else { token.start };
                    let value = if minus { (bits as i64).wrapping_neg() } else { bits as i64 };
                    let bytes = self.access_bytes();
                    let (fault, values) = match (inside > 0, waits) {
                        (true, _) => (Fault::Offset, vec![value.wrapping_add(bytes), value.wrapping_sub(bytes)]),
                        (false, true) => (Fault::Wait, vec![value.wrapping_add(1)]),
                        (false, false) => changed(self.name, root, operand, value),
                    };
                    let once = values.iter().enumerate().filter(|(n, value)| !values[..*n].contains(value));
                    let forms = once.map(|(_, value)| value.to_string()).collect();
                    found.push(self.mutant(fault, start..token.end, forms));
                }
                _ => {}
            }
        }
    }

    /// Bytes of one access of a lane, or of a copy: an address that differs by them is still aligned.
    fn access_bytes(&self) -> i64 {
        if ["ldmatrix", "stmatrix", "cp", "wgmma"].iter().any(|root| self.name.starts_with(root)) {
            return 16;
        }
        let words = || self.name.split('.');
        let many = if words().any(|w| w == "v4") { 4 } else { 1 + i64::from(words().any(|w| w == "v2")) };
        let ty = self.name.rsplit('.').find_map(crate::Ty::from_suffix);
        many * ty.map_or(4, |ty| i64::from(ty.bytes()))
    }
}

/// Numbers from here on are bit patterns or magic factors, where one more or less may mean nothing.
const PATTERN: u64 = 1 << 16;
/// More than any extent a kernel is tried at.
const FAR: i64 = 1 << 20;

/// Other numbers in place of `value`, operand number `operand` of an instruction.
fn changed(name: &str, root: &str, operand: usize, value: i64) -> (Fault, Vec<i64>) {
    let (more, less, half) = (value.wrapping_add(1), value.wrapping_sub(1), value / 2);
    let is_low_mask = value > 0 && value & more == 0;
    match root {
        // The highest lane no longer takes part.
        "vote" | "redux" | "match" | "activemask" | "bar" | "barrier" => (Fault::Mask, vec![value & 0x7fff_ffff]),
        "shfl" if operand == 4 => (Fault::Mask, vec![value & 0x7fff_ffff]),
        "shfl" if value > 1 => (Fault::Mask, vec![half]),
        "shfl" => (Fault::Mask, vec![more]),
        "and" if is_low_mask => (Fault::Mask, vec![half, more]),
        "and" if value != 0 => (Fault::Mask, vec![value & less, 0]),
        "or" | "xor" | "and" => (Fault::Mask, vec![value ^ 1, value ^ FAR]),
        "lop3" => (Fault::Mask, vec![value ^ 0x80, 0]),
        "setp" if value.unsigned_abs() < PATTERN => {
            (Fault::Bound, vec![more, less, value.wrapping_add(FAR), value.wrapping_sub(FAR)])
        }
        // One of two truths.
        "selp" | "mov" if value == 1 => (Fault::Number, vec![0]),
        // Powers of two are strides and lane distances.
        "mov" if value > 1 && value & less == 0 => (Fault::Number, vec![half, more, value.wrapping_add(FAR)]),
        // Shifted out is shifted out, by one more too, so that is tried last.
        "shr" | "shl" if value > 1 => (Fault::Number, vec![less, 0, more]),
        // A field longer than what it lies in is as long.
        "bfi" | "bfe" => (Fault::Number, vec![less, half, 0]),
        // There are two phases.
        "mbarrier" if name.contains(".parity") => (Fault::Number, vec![value ^ 1]),
        // A factor of a division by multiplication, or a pattern of bits: half of it is something else.
        _ if value.unsigned_abs() >= PATTERN || name.starts_with("mul.hi") => (Fault::Number, vec![half, 0]),
        _ => (Fault::Number, vec![more, less, value.wrapping_add(FAR), half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 k_param_0)
{
.reg .b32 %r<5>;
.reg .pred %p<2>;
.loc 1 3 5
$L__BB0_1:
@%p1 bar.sync 0;
cp.async.wait_group 1;
shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1;
and.b32 %r1, %r2, 31;
ld.shared.v2.u32 {%r1, %r2}, [%r3+-8];
mul.hi.s32 %r1, %r2, 1431655766;
setp.lt.s32 %p1, %r1, 7;
@!%p1 bra $L__BB0_1;
cp.async.cg.shared.global [%r1+16], [%rd1], 16, 16;
add.s32 %r1, %r2, -1;
mbarrier.try_wait.parity.shared.b64 %p1, [%r1], 1;
}
";

    #[test]
    fn every_order_and_every_number_has_one_mutant() {
        let found = mutants(TEXT).unwrap();
        let told: Vec<String> = found.iter().map(Mutant::to_string).collect();
        let expected = [
            "PTX line 10, order: `@%p1 bar.sync 0` gone",
            "PTX line 11, order: `cp.async.wait_group 1` gone",
            "PTX line 11, wait: `cp.async.wait_group 1` with 1 as 2",
            "PTX line 12, mask: `shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1` with 16 as 8",
            "PTX line 12, mask: `shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1` with 31 as 15",
            "PTX line 12, mask: `shfl.sync.bfly.b32 %r1|%p1, %r2, 16, 31, -1` with -1 as 2147483647",
            "PTX line 13, mask: `and.b32 %r1, %r2, 31` with 31 as 15, 32",
            "PTX line 14, offset: `ld.shared.v2.u32 {%r1, %r2}, [%r3+-8]` with -8 as 0, -16",
            "PTX line 15, number: `mul.hi.s32 %r1, %r2, 1431655766` with 1431655766 as 715827883, 0",
            "PTX line 16, bound: `setp.lt.s32 %p1, %r1, 7` with 7 as 8, 6, 1048583, -1048569",
            "PTX line 18, offset: `cp.async.cg.shared.global [%r1+16], [%rd1], 16, 16` with 16 as 32, 0",
            "PTX line 19, number: `add.s32 %r1, %r2, -1` with -1 as 0, -2, 1048575",
            "PTX line 20, order: `mbarrier.try_wait.parity.shared.b64 %p1, [%r1], 1` as `setp.eq.s32 %p1, 0, 0`",
            "PTX line 20, number: `mbarrier.try_wait.parity.shared.b64 %p1, [%r1], 1` with 1 as 0",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_nothing_reads_has_no_mutants() {
        let text = ".visible .entry k()\n{\n.reg .b32 %r<5>;\nadd.s32 %r1, %r0, 256;\nshr.u32 %r2, %r1, 4;\n\
            add.s32 %r3, %r0, 7;\nst.shared.u32 [%r0], %r3;\nshfl.sync.idx.b32 %r4, %r0, 1, 31, -1;\n}\n";
        let lines: Vec<u32> = mutants(text).unwrap().iter().map(|mutant| mutant.line).collect();
        assert_eq!(lines, [6, 8, 8, 8], "the addition that feeds the shift alone is gone with it");
    }

    #[test]
    fn a_mutant_differs_in_its_line_alone() {
        for mutant in mutants(TEXT).unwrap() {
            let texts = (0..mutant.forms.len()).map(|form| mutant.apply(TEXT, form)).chain([mutant.trap(TEXT)]);
            for text in texts {
                let lines = TEXT.lines().zip(text.lines()).enumerate();
                let changed: Vec<usize> = lines.filter(|(_, (x, y))| x != y).map(|(at, _)| at + 1).collect();
                let same = TEXT.lines().count() == text.lines().count();
                assert_eq!((changed, same), (vec![mutant.line as usize], true), "{mutant}");
            }
        }
    }
}
