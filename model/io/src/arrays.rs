//! Which points do NumPy's arrays hold, alone (`.npy`) or in an archive (`.npz`)?
//!
//! **Source** NumPy 2, `numpy.savez`: an archive is a zip file with one `.npy` member for each array.

use std::io::{Cursor, Read};

use crate::collect::{Collector, ColourScale, Layout};
use crate::fault::Fault;
use crate::npy::{NpyArray, NpyData, NpyError};

/// A member may unpack to 16 MiB, and to as many more bytes for each of its own: arrays of measured numbers pack less
/// well, arrays of zeros up to 1032 times (RFC 1951: 258 bytes of two bits).
const BASE_BYTES: u64 = 16 << 20;
const MAX_RATIO: u64 = 16;
/// A member beyond this is cut, as files beyond it are refused.
const MAX_MEMBER_BYTES: u64 = 4 << 30;
/// Names under which archives keep points, and colours beside them.
const POINT_NAMES: [&str; 10] =
    ["points", "xyz", "pos", "positions", "coords", "coord", "vertices", "pc", "point_cloud", "data"];
const COLOUR_NAMES: [&str; 7] = ["colors", "colours", "color", "colour", "rgb", "rgbs", "feats"];

/// Reads a `.npy` file.
pub(crate) fn read_npy(bytes: &[u8], out: &mut Collector) -> Result<(), Fault> {
    let array = NpyArray::parse(bytes)?;
    points(&array, None, out)
}

/// Reads a `.npz` file: its only list of points, or the one with a telling name, and colours beside it.
pub(crate) fn read_npz(bytes: &[u8], out: &mut Collector) -> Result<(), Fault> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut members: Vec<(usize, String, Vec<usize>)> = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index)?;
        let Some(name) = member.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
        // The header alone is enough to choose; NumPy's is never beyond 10,000 bytes.
        let mut head = Vec::new();
        member.take(12_000).read_to_end(&mut head).map_err(zip::result::ZipError::Io)?;
        match NpyArray::parse_shape(&head) {
            Ok(shape) => members.push((index, name, shape)),
            Err(NpyError::Dtype { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let list = || members.iter().map(|(_, name, shape)| format!("`{name}` {shape:?}")).collect::<Vec<_>>().join(", ");
    let unclear = || Fault::Arrays { found: if members.is_empty() { "no arrays".to_owned() } else { list() } };
    let (point, colour) = choose(&members).ok_or_else(unclear)?;
    let point = member_array(&mut archive, point)?;
    let colour = colour.map(|index| member_array(&mut archive, index)).transpose()?;
    points(&point, colour.as_ref(), out)
}

/// Members with the points and the colours.
fn choose(members: &[(usize, String, Vec<usize>)]) -> Option<(usize, Option<usize>)> {
    let is_points = |shape: &[usize]| matches!(shape, [_, 3 | 6]);
    let named = |names: &[&str], wanted: &dyn Fn(&[usize]) -> bool| {
        names.iter().find_map(|name| members.iter().find(|(_, have, shape)| have == name && wanted(shape)))
    };
    let mut all = members.iter().filter(|(_, name, shape)| is_points(shape) && !COLOUR_NAMES.contains(&name.as_str()));
    let only = all.next().filter(|_| all.next().is_none());
    let (point, _, shape) = named(&POINT_NAMES, &is_points).or(only)?;
    let &[n_points, n_channels] = shape.as_slice() else { return None };
    let colour = (n_channels == 3).then(|| named(&COLOUR_NAMES, &|shape| shape == [n_points, 3])).flatten();
    Some((*point, colour.map(|(index, ..)| *index)))
}

fn member_array(archive: &mut zip::ZipArchive<Cursor<&[u8]>>, index: usize) -> Result<NpyArray, Fault> {
    let member = archive.by_index(index)?;
    let most = member.compressed_size().saturating_mul(MAX_RATIO).saturating_add(BASE_BYTES).min(MAX_MEMBER_BYTES);
    let mut bytes = Vec::new();
    member.take(most + 1).read_to_end(&mut bytes).map_err(zip::result::ZipError::Io)?;
    if bytes.len() as u64 > most {
        let what = format!("an array that unpacks to more than {most} B");
        return Err(Fault::Unsupported { what, advice: "save it alone with numpy.save" });
    }
    Ok(NpyArray::parse(&bytes)?)
}

/// Pushes the rows of `[points, 3]`, with `colours: [points, 3]`, or of `[points, 6]`.
fn points(array: &NpyArray, colours: Option<&NpyArray>, out: &mut Collector) -> Result<(), Fault> {
    let &[n_points, n_channels @ (3 | 6)] = array.shape() else {
        return Err(Fault::Shape { shape: array.shape().to_vec() });
    };
    let scale = match colours.map(NpyArray::data) {
        Some(NpyData::U8(_)) => ColourScale::Full(255.0),
        Some(_) | None => ColourScale::Unknown,
    };
    let colour = (n_channels == 6 || colours.is_some()).then_some(scale);
    let is_f32 = matches!(array.data(), NpyData::F32(_) | NpyData::F16(_));
    out.begin(Layout { colour, is_f32, n_max: n_points });
    for row in 0..n_points {
        let at = |column: usize| array.f64_at(row * n_channels + column);
        let rgb = match colours {
            Some(colours) => [0, 1, 2].map(|channel| colours.f64_at(row * 3 + channel) as f32),
            None if n_channels == 6 => [at(3) as f32, at(4) as f32, at(5) as f32],
            None => [0.0; 3],
        };
        out.push([at(0), at(1), at(2)], rgb)?;
    }
    Ok(())
}
