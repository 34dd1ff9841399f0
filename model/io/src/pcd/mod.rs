//! Which points does a `.pcd` file of the Point Cloud Library hold? Text, bytes, and compressed bytes.
//!
//! In a cloud that is an image (`HEIGHT` above 1) points without coordinates are holes, and left out.
//! **Source** PCL documentation, "The PCD (Point Cloud Data) file format"; `pcl/io/pcd_io` for the compressed layout.

mod header;
mod lzf;

use crate::collect::{Collector, ColourScale, Layout};
use crate::cursor::Cursor;
use crate::fault::Fault;
use crate::words::{Lines, number};
use header::{Colour, Encoding, Field, Header};

/// Reads the points of a file; gives the number of holes left out.
pub(crate) fn read(bytes: &[u8], out: &mut Collector) -> Result<u64, Fault> {
    let (header, lines) = header::parse(bytes)?;
    let scale = header.colour.map(|colour| match colour {
        Colour::Packed(_) => ColourScale::Full(255.0),
        Colour::Apart(_) => ColourScale::Unknown,
    });
    let is_f32 = header.xyz.iter().all(|&field| header.fields[field].bytes <= 4);
    let mut sink = Sink { header: &header, out, n_holes: 0 };
    match header.encoding {
        Encoding::Ascii => {
            // Two bytes a word at least: a digit and what parts it from the next.
            let most = lines.rest().len() / (2 * header.n_words()) + 1;
            sink.begin(scale, is_f32, most);
            read_ascii(lines, &mut sink)?;
        }
        Encoding::Binary => {
            let item_bytes = header.item_bytes();
            let body = body(&header, lines.rest())?;
            sink.begin(scale, is_f32, body.len() / item_bytes);
            for item in body.chunks_exact(item_bytes) {
                sink.point(|field, column| field.number(&item[header.offset(field) + column * field.bytes..]))?;
            }
        }
        Encoding::Compressed => {
            let body = lzf_body(&header, lines.rest())?;
            let n_points = header.n_points as usize;
            sink.begin(scale, is_f32, n_points);
            // Field after field, each for all points.
            for index in 0..n_points {
                sink.point(|field, column| {
                    let start = header.offset(field) * n_points + index * field.bytes * field.count;
                    field.number(&body[start + column * field.bytes..])
                })?;
            }
        }
    }
    Ok(sink.n_holes)
}

/// Turns the numbers of a point into its place and colour.
struct Sink<'a> {
    header: &'a Header,
    out: &'a mut Collector,
    n_holes: u64,
}

impl Sink<'_> {
    fn begin(&mut self, colour: Option<ColourScale>, is_f32: bool, most: usize) {
        let n_max = usize::try_from(self.header.n_points).unwrap_or(usize::MAX).min(most);
        self.out.begin(Layout { colour, is_f32, n_max });
    }

    /// `number` gives a field's number by its column.
    fn point(&mut self, number: impl Fn(&Field, usize) -> f64) -> Result<(), Fault> {
        let field = |index: usize| &self.header.fields[index];
        let xyz = self.header.xyz.map(|index| number(field(index), 0));
        if self.header.is_image && xyz.iter().any(|value| value.is_nan()) {
            self.n_holes += 1;
            return Ok(());
        }
        let rgb = match self.header.colour {
            None => [0.0; 3],
            Some(Colour::Apart(rgb)) => rgb.map(|index| number(field(index), 0) as f32),
            Some(Colour::Packed(index)) => unpack(field(index), number(field(index), 0)),
        };
        self.out.push(xyz, rgb)
    }
}

/// Red, green and blue of one number: `0x00RRGGBB`, or an f32 with these bits.
fn unpack(field: &Field, value: f64) -> [f32; 3] {
    // As bits, colours are f32 below 2.4e-38; whoever wrote the whole number instead has at least 1.
    let is_bits = field.is_float() && !(1.0..4_294_967_296.0).contains(&value);
    let packed = if is_bits { (value as f32).to_bits() } else { value as i64 as u32 };
    [16, 8, 0].map(|shift| f32::from((packed >> shift) as u8))
}

fn read_ascii(lines: Lines<'_>, sink: &mut Sink<'_>) -> Result<(), Fault> {
    let header = sink.header;
    let mut row = Vec::with_capacity(header.n_words().min(1024));
    let mut n_read = 0;
    for line in lines {
        if n_read == header.n_points {
            break;
        }
        row.clear();
        for word in line.words() {
            row.push(number(word).ok_or_else(|| Fault::line(line.number, "a number", word))?);
        }
        if row.len() != header.n_words() {
            return Err(Fault::line(line.number, "as many numbers as FIELDS and COUNT announce", line.text));
        }
        sink.point(|field, column| row[field.word + column])?;
        n_read += 1;
    }
    if n_read < header.n_points {
        return Err(Fault::field("the number of lines with points", n_read, "that of POINTS in the header; it is cut"));
    }
    Ok(())
}

fn body<'a>(header: &Header, rest: &'a [u8]) -> Result<&'a [u8], Fault> {
    let need_bytes = header.n_points.saturating_mul(header.item_bytes() as u64);
    Cursor::new(rest, "the list of points").take(need_bytes)
}

fn lzf_body(header: &Header, rest: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut cursor = Cursor::new(rest, "the compressed list of points");
    let packed_bytes = cursor.u32()?;
    let full_bytes = cursor.u32()?;
    let need_bytes = header.n_points.saturating_mul(header.item_bytes() as u64);
    if u64::from(full_bytes) != need_bytes {
        return Err(Fault::field("the size of the unpacked points", full_bytes, "POINTS times the size of a point"));
    }
    let packed = cursor.take(u64::from(packed_bytes))?;
    lzf::unpack(packed, full_bytes as usize).ok_or_else(|| {
        Fault::field("the compressed list of points", "broken", "LZF data of the stated size; save the cloud again")
    })
}

#[cfg(test)]
mod tests;
