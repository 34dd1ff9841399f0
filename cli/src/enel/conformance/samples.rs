//! How do padded samples of a case become packed tokens? Padding cut off, clouds and their patch tokens matched.

use super::files::Tensors;
use anyhow::{Context, Result, bail};
use enel_interp::Tensor;
use enel_model::{Packed, Prompt, TokenRows, Vocabulary, names, pack, shift_labels};

/// Samples without their padding.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Token ids.
    pub ids: Vec<Vec<i32>>,
    /// Labels, where the case has them.
    pub labels: Option<Vec<Vec<i32>>>,
}

impl Samples {
    /// Reads `in.input_ids`, `in.labels` and `in.attention_mask`; without a mask nothing is padding.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape, or a mask that is not of ones, then zeros.
    pub fn read(golden: &Tensors) -> Result<Samples> {
        let ids = rows(golden, "in.input_ids")?;
        let used = match golden.contains_key("in.attention_mask") {
            true => rows(golden, "in.attention_mask")?.iter().map(|row| used(row)).collect::<Result<Vec<usize>>>()?,
            false => ids.iter().map(Vec::len).collect(),
        };
        let cut = |all: Vec<Vec<i32>>, name: &str| -> Result<Vec<Vec<i32>>> {
            if all.len() != used.len() {
                bail!("{name} has {} samples, the mask has {}", all.len(), used.len());
            }
            let one = |(row, &n): (&Vec<i32>, &usize)| row.get(..n).map(<[i32]>::to_vec);
            let cut: Option<Vec<Vec<i32>>> = all.iter().zip(&used).map(one).collect();
            cut.with_context(|| format!("{name} is narrower than the mask"))
        };
        let labels = match golden.contains_key("in.labels") {
            true => Some(cut(rows(golden, "in.labels")?, "in.labels")?),
            false => None,
        };
        Ok(Samples { ids: cut(ids, "in.input_ids")?, labels })
    }

    /// Real tokens of each sample.
    pub fn used(&self) -> Vec<usize> {
        self.ids.iter().map(Vec::len).collect()
    }

    /// Lays the samples out. Samples without patch tokens speak of no cloud.
    ///
    /// # Errors
    /// What [`pack`] refuses.
    pub fn pack(&self, vocabulary: &Vocabulary) -> Result<Packed> {
        let prompts: Vec<Prompt<'_>> =
            self.ids.iter().map(|ids| Prompt { ids, clouds: self.clouds(ids, vocabulary) }).collect();
        Ok(pack(&prompts, vocabulary)?)
    }

    fn clouds(&self, ids: &[i32], vocabulary: &Vocabulary) -> usize {
        let patches = ids.iter().filter(|&&id| id == vocabulary.patch).count();
        patches.checked_div(vocabulary.tokens_per_cloud).unwrap_or(0)
    }

    /// Token each point token replaces, for `n_clouds` clouds: those of samples that speak of clouds, or one of each
    /// sample, of which some are then not spoken of.
    ///
    /// # Errors
    /// Another number of clouds.
    pub fn point_row(&self, packed: &Packed, vocabulary: &Vocabulary, n_clouds: usize) -> Result<Vec<i32>> {
        let per_cloud = vocabulary.tokens_per_cloud;
        if packed.point_row.len() == n_clouds * per_cloud {
            return Ok(packed.point_row.clone());
        }
        let spoken: Vec<usize> = self.ids.iter().map(|ids| self.clouds(ids, vocabulary)).collect();
        if spoken.len() != n_clouds || spoken.iter().any(|&n| n > 1) {
            bail!("in.point_clouds holds {n_clouds} clouds, the prompts speak of {}", spoken.iter().sum::<usize>());
        }
        // A row past the last token replaces none.
        let nowhere = i32::try_from(packed.ids.len())?;
        let mut chunks = packed.point_row.chunks(per_cloud.max(1));
        let mut row = Vec::with_capacity(n_clouds * per_cloud);
        for n in spoken {
            match if n > 0 { chunks.next() } else { None } {
                Some(chunk) => row.extend_from_slice(chunk),
                None => row.extend(std::iter::repeat_n(nowhere, per_cloud)),
            }
        }
        Ok(row)
    }

    /// Labels against which rows are scored, if the case has labels.
    pub fn shifted_labels(&self) -> Option<Vec<i32>> {
        let labels = self.labels.as_ref()?;
        Some(shift_labels(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
}

/// Inputs that say where tokens stand.
pub fn row_inputs(ids: &[i32], rows: &TokenRows) -> Result<Tensors> {
    let list =
        [(names::IDS, ids), (names::POSITION, &rows.position), (names::LOW, &rows.low), (names::HIGH, &rows.high)];
    list.iter().map(|(name, values)| Ok(((*name).to_owned(), vector(values)?))).collect()
}

/// An `i32` vector.
///
/// # Errors
/// Never; a vector has its own length.
pub fn vector(values: &[i32]) -> Result<Tensor> {
    Ok(Tensor::from_i32(&[values.len()], values)?)
}

/// Rows of a matrix of integers.
fn rows(golden: &Tensors, name: &str) -> Result<Vec<Vec<i32>>> {
    let tensor = golden.get(name).with_context(|| format!("the case lacks {name}"))?;
    let (&[n_rows, n_columns], Some(values)) = (tensor.shape.as_slice(), tensor.to_i64()) else {
        bail!("{name} is {} {:?}, expected a matrix of integers", tensor.dtype, tensor.shape);
    };
    let narrow: Result<Vec<i32>, _> = values.iter().map(|&value| i32::try_from(value)).collect();
    let narrow = narrow.with_context(|| format!("{name} holds a number that is no token"))?;
    Ok((0..n_rows).map(|row| narrow[row * n_columns..][..n_columns].to_vec()).collect())
}

/// How many ones a mask begins with.
fn used(mask: &[i32]) -> Result<usize> {
    let n = mask.iter().take_while(|&&bit| bit == 1).count();
    if mask[n..].iter().any(|&bit| bit != 0) {
        bail!("in.attention_mask is not of ones, then zeros: padding on the left is not read");
    }
    Ok(n)
}
