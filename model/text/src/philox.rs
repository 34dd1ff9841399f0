//! Which random bits belong to a position? Counter-based, so any device finds them without a history.
//!
//! **Source** Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10.

/// Multipliers of the two halves and Weyl steps of the key (Salmon et al. 2011, section 3.3).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words for one counter under one key; ten rounds.
pub fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut key0, mut key1] = key;
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    for _ in 0..10 {
        let wide0 = u64::from(MULTIPLIERS[0]) * u64::from(x0);
        let wide1 = u64::from(MULTIPLIERS[1]) * u64::from(x2);
        [x0, x1, x2, x3] =
            [(wide1 >> 32) as u32 ^ x1 ^ key0, wide1 as u32, (wide0 >> 32) as u32 ^ x3 ^ key1, wide0 as u32];
        key0 = key0.wrapping_add(KEY_STEPS[0]);
        key1 = key1.wrapping_add(KEY_STEPS[1]);
    }
    [x0, x1, x2, x3]
}

#[cfg(test)]
mod tests {
    use super::philox4x32;

    /// The three known-answer rows published with the reference library (Random123, kat_vectors).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox4x32([0, 0], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
