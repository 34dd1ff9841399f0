//! Which points does a `.las` file of laser scans hold? Versions 1.0 to 1.4, point formats 0 to 10.
//!
//! Points marked as withheld are deleted ones by the format's words and are left out.
//! **Source** ASPRS, "LAS Specification 1.4 - R15", sections 2.4 (header) and 2.6 (point records).

use crate::collect::{Collector, ColourScale, Layout};
use crate::cursor::Cursor;
use crate::fault::Fault;

/// What begins every file.
pub(crate) const MAGIC: &[u8] = b"LASF";
/// Bytes of the shortest header, that of version 1.0.
const MIN_HEADER_BYTES: usize = 227;
/// A point format with this bit is compressed (LASzip's mark).
const COMPRESSED: u8 = 0x80;
/// For each point format: bytes of a record, and where its colour stands.
const FORMATS: [(u16, Option<usize>); 11] = [
    (20, None),
    (28, None),
    (26, Some(20)),
    (34, Some(28)),
    (57, None),
    (63, Some(28)),
    (30, None),
    (36, Some(30)),
    (38, Some(30)),
    (59, None),
    (67, Some(30)),
];
/// First format with the longer flags.
const FIRST_NEW_FORMAT: u8 = 6;
const WHAT: &str = "the .las header";

/// What is needed of a header.
struct Header {
    data_offset: u32,
    format: u8,
    record_bytes: u16,
    n_points: u64,
    scale: [f64; 3],
    offset: [f64; 3],
}

/// Reads the points of a file.
pub(crate) fn read(bytes: &[u8], out: &mut Collector) -> Result<(), Fault> {
    let header = header(bytes)?;
    let (min_bytes, colour) = FORMATS[usize::from(header.format)];
    if header.record_bytes < min_bytes {
        return Err(Fault::field(
            "the .las record length",
            header.record_bytes,
            "at least what its point format takes",
        ));
    }
    let record_bytes = usize::from(header.record_bytes);
    let data = usize::try_from(header.data_offset).ok().and_then(|at| bytes.get(at..));
    let need_bytes = header.n_points.saturating_mul(u64::from(header.record_bytes));
    let have_bytes = data.map_or(0, <[u8]>::len) as u64;
    let cut = Fault::Cut { what: "the list of points", need_bytes, have_bytes };
    let data = data.filter(|_| need_bytes <= have_bytes).ok_or(cut)?;
    let n_points = header.n_points as usize;
    out.begin(Layout { colour: colour.map(|_| ColourScale::Wide), is_f32: false, n_max: n_points });
    for record in data.chunks_exact(record_bytes).take(n_points) {
        if is_withheld(record, header.format) {
            continue;
        }
        let mut cursor = Cursor::new(record, "a point");
        let mut xyz = [0.0; 3];
        for (axis, out) in xyz.iter_mut().enumerate() {
            *out = f64::from(cursor.i32()?) * header.scale[axis] + header.offset[axis];
        }
        let mut rgb = [0.0; 3];
        if let Some(at) = colour {
            let mut cursor = Cursor::new(&record[at..], "a colour");
            for out in &mut rgb {
                *out = f32::from(cursor.u16()?);
            }
        }
        out.push(xyz, rgb)?;
    }
    Ok(())
}

fn is_withheld(record: &[u8], format: u8) -> bool {
    // Byte 15: classification with three flags above it, or from format 6 on, flags alone.
    let bit = if format < FIRST_NEW_FORMAT { 7 } else { 2 };
    record[15] >> bit & 1 == 1
}

fn header(bytes: &[u8]) -> Result<Header, Fault> {
    let have_bytes = bytes.len() as u64;
    if bytes.len() < MIN_HEADER_BYTES {
        return Err(Fault::Cut { what: WHAT, need_bytes: MIN_HEADER_BYTES as u64, have_bytes });
    }
    let (major, minor) = (bytes[24], bytes[25]);
    if major != 1 || minor > 4 {
        return Err(Fault::field("the .las version", format!("{major}.{minor}"), "1.0 to 1.4"));
    }
    let mut cursor = Cursor::new(&bytes[96..], WHAT);
    let data_offset = cursor.u32()?;
    let _records = cursor.u32()?;
    let format = cursor.u8()?;
    if format & COMPRESSED != 0 {
        let advice =
            "unpack it first, for example with `laszip -i in.laz -o out.las` or `pdal translate in.laz out.las`";
        return Err(Fault::Unsupported { what: "compression of points (.laz)".to_owned(), advice });
    }
    if usize::from(format) >= FORMATS.len() {
        return Err(Fault::field("the .las point format", format, "0 to 10"));
    }
    let record_bytes = cursor.u16()?;
    let old_count = cursor.u32()?;
    let _by_return = cursor.take(20)?;
    let mut numbers = [0.0; 6];
    for out in &mut numbers {
        *out = cursor.f64()?;
    }
    let [sx, sy, sz, ox, oy, oz] = numbers;
    // Bytes 247 to 254 of a 1.4 header; the old count is 0 where 32 bits are not enough or the format is new.
    let n_points = match minor {
        4 => bytes.get(247..).map(|rest| Cursor::new(rest, WHAT).u64()).transpose()?.unwrap_or(0),
        _ => 0,
    };
    let n_points = if n_points == 0 { u64::from(old_count) } else { n_points };
    Ok(Header { data_offset, format, record_bytes, n_points, scale: [sx, sy, sz], offset: [ox, oy, oz] })
}
