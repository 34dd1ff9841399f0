//! What do the rarer bit instructions compute?

/// `fns`: the place of the `offset`-th set bit from `base` on, upwards or downwards (PTX ISA 9.0, section 9.7.1.17).
pub(crate) fn find_nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    let is_set = |at: i64| (0..32).contains(&at) && mask >> at & 1 == 1;
    let base = i64::from(base);
    if offset == 0 {
        return if is_set(base) { base as u32 } else { u32::MAX };
    }
    let step = i64::from(offset.signum());
    let places = (0..32).map(|i| base + step * i).filter(|&at| is_set(at));
    places.map(|at| at as u32).nth(offset.unsigned_abs() as usize - 1).unwrap_or(u32::MAX)
}

/// `szext.clamp`: the low `bits` bits of `x`, extended with their sign or with zeros.
pub(crate) fn extend(x: u32, bits: u32, signed: bool) -> u32 {
    match bits {
        0 => 0,
        32.. => x,
        _ if signed => ((x << (32 - bits)) as i32 >> (32 - bits)) as u32,
        _ => x & ((1 << bits) - 1),
    }
}

/// A function of the low and of the high halves.
#[inline(always)]
pub(crate) fn pairs(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// `vabsdiff4`: distances of the four bytes, or their sum on top of `c` (PTX ISA 9.0, section 9.7.16.2).
pub(crate) fn abs_diff_bytes((a, b): (u32, u32), c: u32, (signed, adds): (bool, bool)) -> u32 {
    let wide = |byte: u8| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    let distances = [0, 1, 2, 3].map(|i| wide(a[i]).abs_diff(wide(b[i])));
    if adds {
        distances.iter().fold(c, |sum, d| sum.wrapping_add(*d))
    } else {
        u32::from_le_bytes(distances.map(|d| d as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nth_set_bit_in_both_directions() {
        let mask = 0b1010_0110;
        assert_eq!(find_nth_set(mask, 0, 1), 1);
        assert_eq!(find_nth_set(mask, 2, 2), 5);
        assert_eq!(find_nth_set(mask, 7, -3), 2);
        assert_eq!(find_nth_set(mask, 7, 0), 7);
        assert_eq!(find_nth_set(mask, 0, 0), u32::MAX);
        assert_eq!(find_nth_set(mask, 0, 5), u32::MAX);
        assert_eq!(find_nth_set(u32::MAX, 40, i32::MIN), u32::MAX);
    }

    #[test]
    fn bytes_differ_by_themselves() {
        assert_eq!(abs_diff_bytes((0x01ff_0305, 0x0400_0303), 0, (false, false)), 0x03ff_0002);
        assert_eq!(abs_diff_bytes((0x01ff_0305, 0x0400_0303), 7, (false, true)), 7 + 3 + 255 + 2);
        assert_eq!(abs_diff_bytes((0xff, 1), 0, (true, false)), 2);
    }

    #[test]
    fn extension_takes_the_sign_or_zeros() {
        assert_eq!(extend(0xff, 4, true), u32::MAX);
        assert_eq!(extend(0xf7, 4, true), 7);
        assert_eq!(extend(0xff, 4, false), 15);
        assert_eq!((extend(9, 0, true), extend(9, 99, false)), (0, 9));
    }
}
