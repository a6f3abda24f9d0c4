//! Products of matrices, four rows by eight columns at a time: what fits into the sixteen vector
//! registers of WebAssembly's engines, where the general routine behind Burn's spills.

/// Rows and columns of a tile.
const ROWS: usize = 4;
const COLUMNS: usize = 8;
/// What is packed at once, so that it stays in the caches: rows of the left matrix, terms of a sum, columns of
/// the right matrix. Of these at least a line of a cache, or each is fetched twice.
const MOST_ROWS: usize = 64;
const MOST_TERMS: usize = 512;
const MOST_COLUMNS: usize = 64;
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

    /// Columns `first..first + count` of `depth` rows from `from` on, `W` at a time: those of one tile row by row,
    /// the tiles one after the other. What the last tile lacks is left as it is.
    #[inline(always)]
    fn pack<const W: usize>(
        self,
        first: usize,
        count: usize,
        from: usize,
        depth: usize,
        to: &mut [[f32; W]],
    ) {
        if self.transposed {
            for column in 0..count {
                let values = &self.values[(first + column) * self.stride + from..];
                let tile = &mut to[column / W * depth..][..depth];
                tile.iter_mut().zip(values).for_each(|(to, value)| to[column % W] = *value);
            }
            return;
        }
        let rows = self.values[from * self.stride + first..].chunks(self.stride.max(1));
        for (term, row) in rows.take(depth).enumerate() {
            let (tiles, rest) = row[..count].as_chunks::<W>();
            tiles.iter().enumerate().for_each(|(tile, values)| to[tile * depth + term] = *values);
            if !rest.is_empty() {
                to[tiles.len() * depth + term][..rest.len()].copy_from_slice(rest);
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
    let mut right = vec![[0f32; COLUMNS]; columns.min(MOST_COLUMNS).div_ceil(COLUMNS) * most];
    for from in (0..terms).step_by(MOST_TERMS) {
        let depth = most.min(terms - from);
        for top in (0..rows).step_by(MOST_ROWS) {
            let height = MOST_ROWS.min(rows - top);
            a.transpose().pack(top, height, from, depth, &mut left);
            for first in (0..columns).step_by(MOST_COLUMNS) {
                let width = MOST_COLUMNS.min(columns - first);
                b.pack(first, width, from, depth, &mut right);
                let tiles = (0..width).step_by(COLUMNS).zip(right.chunks_exact(depth));
                for (row, left) in (0..height).step_by(ROWS).zip(left.chunks_exact(depth)) {
                    for (column, right) in tiles.clone() {
                        let size = [ROWS.min(height - row), COLUMNS.min(width - column)];
                        let out = &mut out[(top + row) * stride + first + column..];
                        add_tile(left, right, size, out, stride);
                    }
                }
            }
        }
    }
}

/// Adds the product of packed rows and packed columns to a tile of `out`.
///
/// Not inlined, so that a profile tells multiplying and packing apart.
#[inline(never)]
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
        for [rows, columns, terms] in [
            [1, 33, 5],
            [3, 64, 40],
            [4, 8, 1],
            [7, 19, 30],
            [16, 28, 32],
            [70, 9, 600],
            [66, 8, 513],
            [5, 139, 20],
        ] {
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
