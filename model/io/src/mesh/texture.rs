//! Which colour does a picture have at a place? PNG and JPEG, read without their alpha, bilinear.

use image::{DynamicImage, ImageReader, Limits};

/// Widest and highest picture read.
const MAX_SIDE: u32 = 1 << 14;

/// What happens outside 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    Repeat,
    Mirror,
    Clamp,
}

/// A picture.
#[derive(Clone, Debug)]
pub(crate) struct Texture {
    width: usize,
    height: usize,
    /// Row after row from the top, three bytes each.
    rgb: Vec<u8>,
    wrap: [Wrap; 2],
}

impl Texture {
    /// Decodes a file; `None` when it is neither PNG nor JPEG, is broken, or takes more than `budget_bytes`.
    pub(crate) fn decode(bytes: &[u8], wrap: [Wrap; 2], budget_bytes: u64) -> Option<Self> {
        let mut reader = ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().ok()?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(budget_bytes);
        reader.limits(limits);
        let image = match reader.decode().ok()? {
            DynamicImage::ImageRgb8(image) => image,
            image => image.into_rgb8(),
        };
        let (width, height) = (image.width() as usize, image.height() as usize);
        (width > 0 && height > 0).then(|| Self { width, height, rgb: image.into_raw(), wrap })
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.rgb.len() as u64
    }

    /// The colour at `(u, v)`, from 0 to 1, with `v` from the top; texel centres lie at halves.
    pub(crate) fn at(&self, uv: [f32; 2]) -> [f32; 3] {
        let [x, y] = [(uv[0], self.width, self.wrap[0]), (uv[1], self.height, self.wrap[1])].map(span);
        let texel = |column: usize, row: usize| {
            let at = 3 * (row * self.width + column);
            [0, 1, 2].map(|channel| f32::from(self.rgb[at + channel]) / 255.0)
        };
        let across = |row: usize| mix(texel(x.low, row), texel(x.high, row), x.part);
        mix(across(y.low), across(y.high), y.part)
    }
}

/// Two neighbours along an axis and how far the place is towards the second.
struct Span {
    low: usize,
    high: usize,
    part: f32,
}

fn span((place, len, wrap): (f32, usize, Wrap)) -> Span {
    let place = if place.is_finite() { place } else { 0.0 };
    let folded = match wrap {
        Wrap::Repeat => place.rem_euclid(1.0),
        Wrap::Mirror => 1.0 - (place.rem_euclid(2.0) - 1.0).abs(),
        Wrap::Clamp => place.clamp(0.0, 1.0),
    };
    let at = folded * len as f32 - 0.5;
    let low = at.floor();
    let fit = |index: i64| match wrap {
        Wrap::Repeat => index.rem_euclid(len as i64) as usize,
        Wrap::Mirror | Wrap::Clamp => index.clamp(0, len as i64 - 1) as usize,
    };
    Span { low: fit(low as i64), high: fit(low as i64 + 1), part: at - low }
}

fn mix(a: [f32; 3], b: [f32; 3], part: f32) -> [f32; 3] {
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_texels(wrap: Wrap) -> Texture {
        Texture { width: 2, height: 1, rgb: vec![255, 0, 0, 0, 0, 255], wrap: [wrap; 2] }
    }

    #[test]
    fn texels_are_met_at_their_centres_and_mixed_between() {
        for wrap in [Wrap::Repeat, Wrap::Mirror, Wrap::Clamp] {
            let texture = two_texels(wrap);
            assert_eq!(texture.at([0.25, 0.5]), [1.0, 0.0, 0.0]);
            assert_eq!(texture.at([0.75, 0.9]), [0.0, 0.0, 1.0]);
            assert_eq!(texture.at([0.5, 0.0]), [0.5, 0.0, 0.5]);
        }
    }

    #[test]
    fn places_outside_repeat_mirror_or_stay_at_the_edge() {
        let red = |wrap, u| two_texels(wrap).at([u, 0.5])[0];
        assert_eq!([1.25, -0.75, 0.0].map(|u| red(Wrap::Repeat, u)), [1.0, 1.0, 0.5]);
        assert_eq!([1.25, -0.25, 2.25].map(|u| red(Wrap::Mirror, u)), [0.0, 1.0, 1.0]);
        assert_eq!([1.25, -0.75, f32::NAN].map(|u| red(Wrap::Clamp, u)), [0.0, 1.0, 1.0]);
    }
}
