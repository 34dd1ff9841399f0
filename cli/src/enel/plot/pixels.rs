//! How does a picture become pixels? `resvg` draws the very SVG, its words in a font that is part of the program.
//!
//! Law: no font of the machine is asked for, so a picture has the same pixels everywhere.

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

/// Pixels for each unit of the picture: small words stay sharp on fine screens and in print.
const SCALE: f32 = 2.0;
/// Made for small sizes, and as wide as the legend counts on. **Source** the font Hack 3.003, as `egui` ships it.
const FONT: &[u8] = epaint_default_fonts::HACK_REGULAR;

/// The bytes of a PNG file that shows an SVG picture.
///
/// # Errors
/// A text that is no SVG, a picture of more pixels than memory holds.
pub(super) fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = Options::default();
    options.fontdb_mut().load_font_data(FONT.to_vec());
    options.fontdb_mut().set_sans_serif_family("Hack");
    let tree = Tree::from_str(svg, &options).context("the picture is no SVG")?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("the picture is empty")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("the picture is too large")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().context("the pixels cannot be packed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_drawn_without_a_font_of_the_machine() {
        let dark = |words: &str| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"60\" height=\"20\" font-family=\"sans-serif\" \
                 font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
                 <text x=\"58\" y=\"14\" text-anchor=\"end\">{words}</text></svg>"
            );
            let image = image::load_from_memory(&png(&svg).unwrap()).unwrap().to_luma8();
            assert_eq!(image.dimensions(), (120, 40));
            image.pixels().filter(|pixel| pixel.0[0] < 64).count()
        };
        assert_eq!(dark(""), 0);
        assert!(dark("i") > 10 && dark("loss") > 2 * dark("i") && dark("1.5e-4") > 4 * dark("i"));
    }
}
