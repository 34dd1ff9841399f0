//! Which numbers does an accessor name? Rows of a view of a buffer, of any component type, with sparse changes.

use super::Document;
use super::json::{Accessor, View};
use crate::fault::Fault;

/// Rows an accessor without bytes of its own may have; they are zeros that nothing in the file pays for.
const MAX_FREE_ROWS: u64 = 1 << 18;

/// A component type of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component {
    I8,
    U8,
    I16,
    U16,
    U32,
    F32,
}

impl Component {
    fn parse(code: u32) -> Result<Self, Fault> {
        Ok(match code {
            5120 => Self::I8,
            5121 => Self::U8,
            5122 => Self::I16,
            5123 => Self::U16,
            5125 => Self::U32,
            5126 => Self::F32,
            _ => return Err(Fault::field("a glTF component type", code, "5120 to 5123, 5125 or 5126")),
        })
    }

    fn n_bytes(self) -> u64 {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::U32 | Self::F32 => 4,
        }
    }

    /// The number at the front of `raw`.
    fn number(self, raw: &[u8]) -> f64 {
        match self {
            Self::I8 => f64::from(raw[0] as i8),
            Self::U8 => f64::from(raw[0]),
            Self::I16 => f64::from(i16::from_le_bytes([raw[0], raw[1]])),
            Self::U16 => f64::from(u16::from_le_bytes([raw[0], raw[1]])),
            Self::U32 => f64::from(u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])),
            Self::F32 => f64::from(f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])),
        }
    }

    /// What a full value is, when whole numbers stand for fractions.
    fn full(self) -> f64 {
        match self {
            Self::I8 => 127.0,
            Self::U8 => 255.0,
            Self::I16 => 32767.0,
            Self::U16 => 65535.0,
            Self::U32 | Self::F32 => 1.0,
        }
    }
}

/// Rows of `n_columns` numbers in a view, checked to lie inside it.
struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
    component: Component,
    n_columns: usize,
}

impl Rows<'_> {
    fn number(&self, row: usize, column: usize) -> f64 {
        let at = row * self.stride + column * self.component.n_bytes() as usize;
        self.component.number(&self.bytes[at..])
    }
}

impl Document<'_> {
    /// The accessor in `row`.
    pub(super) fn accessor(&self, row: usize) -> Result<&Accessor, Fault> {
        at(&self.root.accessors, row, "accessor")
    }

    /// The bytes of the view in `row`.
    pub(super) fn view(&self, row: usize) -> Result<(&[u8], &View), Fault> {
        let view = at(&self.root.buffer_views, row, "buffer view")?;
        let buffer = at(&self.buffers, view.buffer, "buffer")?;
        let have_bytes = (buffer.len() as u64).saturating_sub(view.byte_offset);
        let cut = Fault::Cut { what: "a glTF buffer view", need_bytes: view.byte_length, have_bytes };
        let end = view.byte_offset.checked_add(view.byte_length).and_then(|end| usize::try_from(end).ok());
        let bytes = end.and_then(|end| buffer.get(view.byte_offset as usize..end)).ok_or(cut)?;
        Ok((bytes, view))
    }

    /// Numbers of the accessor in `row`, the first `N` columns of each of its rows; missing columns are 1.
    pub(super) fn floats<const N: usize>(&self, row: usize) -> Result<Vec<[f64; N]>, Fault> {
        let accessor = self.accessor(row)?;
        let component = Component::parse(accessor.component_type)?;
        let n_columns = columns(&accessor.shape)?;
        let full = if accessor.normalized { component.full() } else { 1.0 };
        let read = |rows: &Rows<'_>, row: usize| {
            let mut out = [1.0; N];
            for (column, out) in out.iter_mut().enumerate().take(rows.n_columns) {
                *out = (rows.number(row, column) / full).max(if full > 1.0 { -1.0 } else { f64::NEG_INFINITY });
            }
            out
        };
        let mut out = match accessor.buffer_view {
            Some(view) => {
                let rows = self.rows(view, accessor.byte_offset, (component, n_columns), accessor.count)?;
                (0..accessor.count as usize).map(|row| read(&rows, row)).collect()
            }
            None if accessor.count > MAX_FREE_ROWS => {
                return Err(Fault::field("a glTF accessor without a buffer view", accessor.count, "at most 2^18 rows"));
            }
            None => vec![[0.0; N]; accessor.count as usize],
        };
        if let Some(sparse) = &accessor.sparse {
            let component_of_index = Component::parse(sparse.indices.component_type)?;
            let indices = &sparse.indices;
            let indices = self.rows(indices.buffer_view, indices.byte_offset, (component_of_index, 1), sparse.count)?;
            let values = &sparse.values;
            let values = self.rows(values.buffer_view, values.byte_offset, (component, n_columns), sparse.count)?;
            for change in 0..sparse.count as usize {
                let index = indices.number(change, 0);
                let target = out.get_mut(index as usize).filter(|_| index >= 0.0);
                *target.ok_or_else(|| Fault::field("a sparse glTF index", index, "a row of its accessor"))? =
                    read(&values, change);
            }
        }
        Ok(out)
    }

    /// Whole numbers of the accessor in `row`.
    pub(super) fn indices(&self, row: usize) -> Result<Vec<u32>, Fault> {
        let accessor = self.accessor(row)?;
        let is_whole =
            matches!(Component::parse(accessor.component_type)?, Component::U8 | Component::U16 | Component::U32);
        if !is_whole || accessor.normalized {
            return Err(Fault::field("the type of glTF indices", accessor.component_type, "5121, 5123 or 5125"));
        }
        Ok(self.floats::<1>(row)?.into_iter().map(|[index]| index as u32).collect())
    }

    fn rows(
        &self,
        view: usize,
        offset: u64,
        (component, n_columns): (Component, usize),
        count: u64,
    ) -> Result<Rows<'_>, Fault> {
        let (bytes, view) = self.view(view)?;
        let row_bytes = component.n_bytes() * n_columns as u64;
        let stride = view.byte_stride.unwrap_or(row_bytes);
        if stride < row_bytes {
            return Err(Fault::field("a glTF byte stride", stride, "at least the size of a row"));
        }
        let have_bytes = (bytes.len() as u64).saturating_sub(offset);
        let need_bytes = count.saturating_sub(1).saturating_mul(stride).saturating_add(row_bytes);
        let need_bytes = if count == 0 { 0 } else { need_bytes };
        let bytes = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        let cut = Fault::Cut { what: "a glTF accessor", need_bytes, have_bytes };
        let bytes = bytes.filter(|_| need_bytes <= have_bytes).ok_or(cut)?;
        Ok(Rows { bytes, stride: stride as usize, component, n_columns })
    }
}

/// Numbers of a row.
fn columns(shape: &str) -> Result<usize, Fault> {
    Ok(match shape {
        "SCALAR" => 1,
        "VEC2" => 2,
        "VEC3" => 3,
        "VEC4" => 4,
        _ => return Err(Fault::field("the type of a glTF accessor", shape, "SCALAR, VEC2, VEC3 or VEC4")),
    })
}

/// A row of a list of the description.
pub(super) fn at<'t, T>(list: &'t [T], row: usize, what: &'static str) -> Result<&'t T, Fault> {
    list.get(row).ok_or_else(|| Fault::Unsupported {
        what: format!("a description that names {what} {row} of {}", list.len()),
        advice: "export the file again",
    })
}
