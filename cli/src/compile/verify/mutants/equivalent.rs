//! Which mutants mean the same as the kernel they came from, and why?
//!
//! Law: a row excuses one instruction of named kernels and no more often than it says; what it does not excuse is missed.

use enel_emulator::{Fault, Mutant};

/// Why some mutants are no faults.
struct Row {
    /// Kernels, by how their names begin.
    kernels: &'static [&'static str],
    fault: Fault,
    /// The instruction, registers as `%`, and what of it differs.
    was: &'static str,
    part: &'static str,
    /// How many of one kernel.
    most: usize,
    reason: &'static str,
}

const fn row(
    kernels: &'static [&'static str],
    (fault, most): (Fault, usize),
    (was, part): (&'static str, &'static str),
    reason: &'static str,
) -> Row {
    Row { kernels, fault, was, part, most, reason }
}

const FENCE: &str = "the machine takes an atomic before a block barrier to acquire, as the example of the CUDA C++ Programming \
    Guide does, so only the fence before the atomic can be missed; the PTX memory model asks for this one too";
const EMPTY: &str = "where an index is looked for among no elements, which has no meaning";
const LIBRARY: &str = "CUDA's reduction of huge arguments: bits below the last place of any result, or the sign of an \
    argument of an even function";
const DIVISION: &str = "CUDA's choice between a long and a short division, which give the same quotient";
const UNTOUCHED: &str = "whether anything was added: what was not is written back as it was read";
const ABSENT: &str = "the value of an element beyond the end, which is never stored";
const SHARE: &str =
    "how much each block of a team takes: any share that covers all elements is right, the last takes what is left";
const ONE_ROW_TILE: &str = "the place of the second tile of rows, of which there is one";

const WHOLE_ITEM: &str =
    "a quotient that is multiplied by its divisor and added to its remainder, which gives what was divided";
const NEGATIVE: &str = "how a negative number of keys is rounded, which a comparison before it rules out";
const BEYOND: &str = "where a range begins or ends before the first key, which has no meaning in a derivative";
const LATER: &str =
    "the index of an element that ties with an earlier one of its thread, and loses by any index beyond that";
const ALONE: &str = "whether a single row is worked on by itself, which adds the same products in the same order";
const AHEAD: &str =
    "whether a round is one of several together or of those left, which add the same products in the same order";
/// Kernels whose blocks work in teams.
const TEAMS: &[&str] = &["reduce_team", "reduce_column_team", "attention_team", "contract_team"];
const ROWS_OF_TILE: &str = "the end of a loop over all rows of a tile, which is left where its own rows end, no later";
/// Kernels whose threads store a sixteenth of a tile's rows each.
const SIXTEEN_ROUNDS: &[&str] = &["contract_f32_64", "contract_team_f32"];
/// Kernels of at most sixteen rows.
const ONE_TILE: &[&str] = &["contract_f32_16", "contract_bf16_16"];

/// All reasons.
const ROWS: &[Row] = &[
    row(TEAMS, (Fault::Order, 1), ("membar.gl", "membar.gl"), FENCE),
    row(&["contract_few", "contract_eight"], (Fault::Bound, 1), ("setp.eq.s32 %, %, 1", "1"), ALONE),
    row(&["contract_few_f32", "contract_one_f32"], (Fault::Mask, 1), ("or.b32 %, %, 384", "384"), AHEAD),
    row(&["contract_few_f32"], (Fault::Number, 1), ("add.s32 %, %, 896", "896"), AHEAD),
    row(&["contract_eight_bf16"], (Fault::Number, 1), ("add.s32 %, %, 252", "252"), AHEAD),
    row(&["contract_few_bf16"], (Fault::Mask, 1), ("or.b32 %, %, 768", "768"), AHEAD),
    row(&["contract_eight_bf16"], (Fault::Mask, 1), ("or.b32 %, %, 256", "256"), AHEAD),
    row(
        &["fps_recompute"],
        (Fault::Offset, 1),
        ("st.shared.f32 [%+12], %", "12"),
        "a coordinate of a warp's best, which only the templates that hold points read",
    ),
    row(&["attention_token_f32"], (Fault::Number, 1), ("mul.wide.u32 %, %, -1431655765", "-1431655765"), WHOLE_ITEM),
    row(&["attention_token_f32"], (Fault::Number, 1), ("shr.u64 %, %, 33", "33"), WHOLE_ITEM),
    row(
        &["attention_team"],
        (Fault::Number, 1),
        ("mov.u32 %, 0", "0"),
        "how many keys a block takes of a token that sees none: they begin where the token's end, or beyond",
    ),
    row(&["attention_team"], (Fault::Number, 1), ("shr.s32 %, %, 31", "31"), NEGATIVE),
    row(&["attention_team"], (Fault::Number, 1), ("shr.u32 %, %, 28", "28"), NEGATIVE),
    row(
        &["attention_bf16_160"],
        (Fault::Mask, 1),
        ("and.b32 %, %, 31", "31"),
        "which lanes of the one warp that gets there write what all of them know",
    ),
    row(&["attention_grad"], (Fault::Number, 2), ("selp.b32 %, 0, %, %", "0"), BEYOND),
    row(&["reduce_column"], (Fault::Number, 2), ("add.s32 %, %, 16", "16"), LATER),
    row(&["reduce_"], (Fault::Number, 2), ("mov.u32 %, -1", "-1"), EMPTY),
    row(&["map_functions"], (Fault::Number, 2), ("mov.u32 %, 0", "0"), LIBRARY),
    row(&["map_functions"], (Fault::Number, 2), ("mov.u64 %, 0", "0"), LIBRARY),
    row(&["map_functions"], (Fault::Bound, 2), ("setp.eq.s32 %, %, 0", "0"), LIBRARY),
    row(&["map_functions"], (Fault::Bound, 2), ("setp.ne.s32 %, %, 0", "0"), LIBRARY),
    row(&["map_functions"], (Fault::Number, 2), ("shl.b32 %, %, 2", "2"), LIBRARY),
    row(&["map_functions"], (Fault::Number, 2), ("bfi.b64 %, %, %, 32, 32", "32"), LIBRARY),
    row(&["map_functions"], (Fault::Mask, 1), ("and.b32 %, %, -2147483648", "-2147483648"), LIBRARY),
    row(&["map_integers"], (Fault::Bound, 1), ("setp.eq.s64 %, %, -1", "-1"), DIVISION),
    row(&["map_integers"], (Fault::Bound, 2), ("setp.eq.s64 %, %, 0", "0"), DIVISION),
    row(&["reduce_team"], (Fault::Number, 1), ("shr.u64 %, %, 33", "33"), SHARE),
    row(
        &["reduce_team"],
        (Fault::Bound, 1),
        ("setp.gt.u32 %, %, 31", "31"),
        "warps that leave early: the first alone stores, whatever the others compute",
    ),
    row(
        &["contract_one"],
        (Fault::Mask, 1),
        ("or.b32 %, %, -125", "-125"),
        "bits that are set before: the other operand is the complement of four times a thread's number",
    ),
    row(&["contract_bf16_16"], (Fault::Bound, 1), ("setp.lt.u32 %, %, 8", "8"), ROWS_OF_TILE),
    row(SIXTEEN_ROUNDS, (Fault::Bound, 1), ("setp.lt.u32 %, %, 16", "16"), ROWS_OF_TILE),
    row(
        &["contract_bf16", "contract_team_bf16", "together"],
        (Fault::Bound, 1),
        ("setp.lt.u32 %, %, 32", "32"),
        ROWS_OF_TILE,
    ),
    row(
        &["contract_f32_128", "contract_bf16_128", "contract_fold_f32", "contract_fold_bf16"],
        (Fault::Bound, 1),
        ("setp.lt.u32 %, %, 64", "64"),
        ROWS_OF_TILE,
    ),
    row(&["scatter_add"], (Fault::Number, 2), ("mov.u32 %, 0", "0"), UNTOUCHED),
    row(&["scatter_add_wide"], (Fault::Number, 3), ("mov.u64 %, 0", "0"), ABSENT),
    row(ONE_TILE, (Fault::Number, 2), ("shl.b32 %, %, 3", "3"), ONE_ROW_TILE),
    row(ONE_TILE, (Fault::Number, 1), ("min.s32 %, %, 8", "8"), ONE_ROW_TILE),
    row(ONE_TILE, (Fault::Number, 2), ("shl.b32 %, %, 4", "4"), ONE_ROW_TILE),
    row(ONE_TILE, (Fault::Number, 1), ("shl.b32 %, %, 7", "7"), ONE_ROW_TILE),
];

/// What is still excused of one kernel.
pub struct Excuses {
    left: Vec<(&'static Row, usize)>,
}

impl Excuses {
    /// Those of a kernel.
    pub fn of(kernel: &str) -> Excuses {
        let mine = ROWS.iter().filter(|row| row.kernels.iter().any(|name| kernel.starts_with(name)));
        Excuses { left: mine.map(|row| (row, row.most)).collect() }
    }

    /// The reason why a mutant means the same, if there is one.
    pub fn reason(&mut self, mutant: &Mutant) -> Option<&'static str> {
        let was = plain(&mutant.was);
        let fits = |row: &Row| row.fault == mutant.fault && row.was == was && row.part == mutant.part.trim();
        let (row, left) = self.left.iter_mut().find(|(row, left)| *left > 0 && fits(row))?;
        *left -= 1;
        Some(row.reason)
    }
}

/// An instruction without the numbers of its registers, which differ between compilations.
fn plain(was: &str) -> String {
    let mut text = String::new();
    let mut in_register = false;
    for c in was.chars() {
        in_register = c == '%' || (in_register && c.is_ascii_alphanumeric());
        if !in_register || c == '%' {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_no_numbers() {
        assert_eq!(plain("@%p1 ld.shared.v2.u32 {%r1, %rd22}, [%r3+8]"), "@% ld.shared.v2.u32 {%, %}, [%+8]");
    }
}
