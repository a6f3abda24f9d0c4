//! Products of matrices, four rows by eight columns at a time: what fits into the sixteen vector
//! registers of WebAssembly's engines, where the general routine behind Burn's spills.

/// Rows and columns of a tile.
const ROWS: usize = 4;
const COLUMNS: usize = 8;
/// Rows of the left matrix and terms of a sum that are packed at once, so that both stay in the caches.
const MOST_ROWS: usize = 64;
const MOST_TERMS: usize = 512;
/// Columns that a single row is multiplied with at once.
const STRIPE: usize = 32;

/// Rows of values `stride` apart, or the transpose of that.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    pub fn new(values: &'a [f32], stride: usize) -> Self {
        Self { values, stride, transposed: false }
    }

    pub fn transpose(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Columns `first..first + count` (at most `W`) of rows `from..from + terms`, one row after the other,
    /// filled up with what `to` has.
    #[inline(always)]
    fn pack<const W: usize>(self, first: usize, count: usize, from: usize, to: &mut [[f32; W]]) {
        if self.transposed {
            for column in 0..count {
                let start = (first + column) * self.stride + from;
                for (to, value) in to.iter_mut().zip(&self.values[start..]) {
                    to[column] = *value;
                }
            }
            return;
        }
        let rows = self.values[from * self.stride + first..].chunks(self.stride.max(1));
        for (to, row) in to.iter_mut().zip(rows) {
            match row.first_chunk() {
                Some(row) if count == W => *to = *row,
                _ => to[..count].copy_from_slice(&row[..count]),
            }
        }
    }
}

/// Adds `a b` to `out`, whose rows are `stride` apart.
///
/// # Shapes
/// `[rows, columns, terms]`: `a` is `[rows, terms]`, `b` `[terms, columns]`, `out` `[rows, columns]`.
pub(super) fn add_product(
    a: Matrix,
    b: Matrix,
    [rows, columns, terms]: [usize; 3],
    out: &mut [f32],
    stride: usize,
) {
    if rows < ROWS && !a.transposed && !b.transposed {
        for (row, out) in out.chunks_mut(stride).take(rows).enumerate() {
            add_row(&a.values[row * a.stride..][..terms], b, &mut out[..columns]);
        }
        return;
    }
    let most = terms.min(MOST_TERMS);
    let mut left = vec![[0f32; ROWS]; rows.min(MOST_ROWS).div_ceil(ROWS) * most];
    let mut right = vec![[0f32; COLUMNS]; most];
    for from in (0..terms).step_by(MOST_TERMS) {
        let depth = most.min(terms - from);
        for top in (0..rows).step_by(MOST_ROWS) {
            let height = MOST_ROWS.min(rows - top);
            let blocks = left.chunks_exact_mut(depth).take(height.div_ceil(ROWS));
            for (i, block) in blocks.enumerate() {
                let first = top + i * ROWS;
                a.transpose().pack(first, ROWS.min(rows - first), from, block);
            }
            for column in (0..columns).step_by(COLUMNS) {
                let width = COLUMNS.min(columns - column);
                b.pack(column, width, from, &mut right[..depth]);
                for (i, block) in left.chunks_exact(depth).take(height.div_ceil(ROWS)).enumerate() {
                    let first = top + i * ROWS;
                    let out = &mut out[first * stride + column..];
                    add_tile(block, &right[..depth], [ROWS.min(rows - first), width], out, stride);
                }
            }
        }
    }
}

/// Adds the product of packed rows and packed columns to a tile of `out`.
#[inline(always)]
fn add_tile(
    a: &[[f32; ROWS]],
    b: &[[f32; COLUMNS]],
    [rows, columns]: [usize; 2],
    out: &mut [f32],
    stride: usize,
) {
    let mut sums = [[0f32; COLUMNS]; ROWS];
    for (a, b) in a.iter().zip(b) {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                sums[i][j] += a[i] * b[j];
            }
        }
    }
    for (sums, out) in sums.iter().take(rows).zip(out.chunks_mut(stride)) {
        match out.first_chunk_mut() {
            Some(out) if columns == COLUMNS => add(out, sums),
            _ => out.iter_mut().zip(&sums[..columns]).for_each(|(out, sum)| *out += sum),
        }
    }
}

#[inline(always)]
fn add<const N: usize>(out: &mut [f32; N], values: &[f32; N]) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
}

/// Adds the product of one row and a matrix, which is read once and not packed.
#[inline(always)]
fn add_row(a: &[f32], b: Matrix, out: &mut [f32]) {
    let (stripes, rest) = out.as_chunks_mut::<STRIPE>();
    let done = stripes.len() * STRIPE;
    for (i, out) in stripes.iter_mut().enumerate() {
        let mut sums = [0f32; STRIPE];
        for (a, b) in a.iter().zip(b.values[i * STRIPE..].chunks(b.stride)) {
            if let Some(b) = b.first_chunk::<STRIPE>() {
                for j in 0..STRIPE {
                    sums[j] += a * b[j];
                }
            }
        }
        add(out, &sums);
    }
    if !rest.is_empty() {
        for (a, b) in a.iter().zip(b.values[done..].chunks(b.stride)) {
            rest.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    /// Every element's sum, for sizes with and without remainders, of both orders.
    #[test]
    fn products_equal_their_sums() {
        for [rows, columns, terms] in
            [[1, 33, 5], [3, 64, 40], [4, 8, 1], [7, 19, 30], [16, 28, 32], [70, 9, 600], [66, 8, 513]]
        {
            for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
                let (a_stride, b_stride) = (terms.max(rows) + 3, terms.max(columns) + 1);
                let (left, right) = (values(a_stride * a_stride, 1), values(b_stride * b_stride, 2));
                let matrix = |values, stride, transposed| {
                    let matrix = Matrix::new(values, stride);
                    if transposed { matrix.transpose() } else { matrix }
                };
                let stride = columns + 5;
                let mut out = vec![0.5; rows * stride];
                let a = matrix(&left, a_stride, a_transposed);
                let b = matrix(&right, b_stride, b_transposed);
                add_product(a, b, [rows, columns, terms], &mut out, stride);
                let at = |m: Matrix, row: usize, column: usize| {
                    let (row, column) = if m.transposed { (column, row) } else { (row, column) };
                    f64::from(m.values[row * m.stride + column])
                };
                for (i, found) in out.iter().enumerate() {
                    let (row, column) = (i / stride, i % stride);
                    let sum: f64 = match column < columns {
                        true => (0..terms).map(|k| at(a, row, k) * at(b, k, column)).sum(),
                        false => 0.0,
                    };
                    let difference = (f64::from(*found) - 0.5 - sum).abs();
                    assert!(
                        difference < 1e-6 * terms.max(20) as f64,
                        "{rows} {columns} {terms}: {found} {sum}"
                    );
                }
            }
        }
    }
}
