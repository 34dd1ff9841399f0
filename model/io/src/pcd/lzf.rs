//! How is LZF data unpacked?
//!
//! **Source** Lehmann, LibLZF 3.6, `lzf_d.c` and `lzf.h`: a control byte below 32 begins a run of its value plus one
//! literal bytes; another one is a back reference, its three high bits the length and 13 bits the distance.

/// A back reference of three bytes stands for at most 264.
const MAX_RATIO: usize = 88;

/// Exactly `n_bytes` bytes; `None` when the data are broken or unpack to another size.
pub(super) fn unpack(packed: &[u8], n_bytes: usize) -> Option<Vec<u8>> {
    if n_bytes / MAX_RATIO > packed.len() {
        return None;
    }
    let mut out = Vec::with_capacity(n_bytes);
    let mut rest = packed.iter();
    while let Some(&control) = rest.next() {
        let control = usize::from(control);
        if control < 32 {
            let run = rest.as_slice().get(..=control)?;
            out.extend_from_slice(run);
            rest = rest.as_slice()[control + 1..].iter();
        } else {
            let mut len = control >> 5;
            if len == 7 {
                len += usize::from(*rest.next()?);
            }
            let distance = (control & 31) << 8 | usize::from(*rest.next()?);
            let start = out.len().checked_sub(distance + 1)?;
            // The run may reach into what it writes.
            (start..start + len + 2).for_each(|at| out.push(out[at]));
        }
        if out.len() > n_bytes {
            return None;
        }
    }
    (out.len() == n_bytes).then_some(out)
}
