//! Where does each result element come from? Strided views: one odometer serves every move and every broadcast.

/// Which source element stands at each place of `shape`: `base` plus the sum of index times stride.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Extents walked, outermost first.
    pub(crate) shape: Vec<usize>,
    /// Source offset of the first element.
    pub(crate) base: usize,
    /// Source distance between neighbours along each axis.
    pub(crate) strides: Vec<isize>,
}

/// Row-major strides of `shape`.
pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

/// Number of elements of `shape`.
pub(crate) fn elems(shape: &[usize]) -> usize {
    shape.iter().product()
}

impl View {
    /// `from` repeated to `to`: shapes aligned at the last axis, stride 0 where `from` has extent 1.
    pub(crate) fn broadcast(from: &[usize], to: &[usize]) -> View {
        let lead = to.len() - from.len();
        let mut strides = vec![0isize; to.len()];
        for (i, stride) in row_major(from).into_iter().enumerate() {
            strides[lead + i] = if from[i] == 1 { 0 } else { stride };
        }
        View { shape: to.to_vec(), base: 0, strides }
    }

    /// Axes of a dense tensor in another order: axis i of the view is axis `perm[i]` of `shape`.
    pub(crate) fn permuted(shape: &[usize], perm: &[usize]) -> View {
        let strides = row_major(shape);
        View {
            shape: perm.iter().map(|&p| shape[p]).collect(),
            base: 0,
            strides: perm.iter().map(|&p| strides[p]).collect(),
        }
    }

    /// Source offsets in row-major order of the view.
    pub(crate) fn offsets(&self) -> Offsets<'_> {
        Offsets { view: self, at: vec![0; self.shape.len()], offset: self.base as isize, left: elems(&self.shape) }
    }

    /// The elements of `src` in row-major order of the view.
    pub(crate) fn read<T: Copy>(&self, src: &[T]) -> Vec<T> {
        self.offsets().map(|o| src[o]).collect()
    }
}

/// See [`View::offsets`].
pub(crate) struct Offsets<'v> {
    view: &'v View,
    at: Vec<usize>,
    offset: isize,
    left: usize,
}

impl Iterator for Offsets<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.offset as usize;
        for axis in (0..self.at.len()).rev() {
            self.at[axis] += 1;
            self.offset += self.view.strides[axis];
            if self.at[axis] < self.view.shape[axis] {
                break;
            }
            self.offset -= self.view.strides[axis] * self.view.shape[axis] as isize;
            self.at[axis] = 0;
        }
        Some(here)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Offsets<'_> {}
