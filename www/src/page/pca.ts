/** Embeddings as colours: their first three principal components, by power iteration on the small
 * matrix of inner products. */

/** One `[red, green, blue]` in 0..255 a row of `rows × columns` values. */
export function colours(values: Float32Array, rows: number): [number, number, number][] {
  const columns = values.length / rows;
  const mean = Array.from({ length: columns }, (_, c) => {
    let sum = 0;
    for (let r = 0; r < rows; r++) sum += values[r * columns + c] ?? 0;
    return sum / rows;
  });
  const at = (r: number, c: number) => (values[r * columns + c] ?? 0) - (mean[c] ?? 0);
  const products = Array.from({ length: rows }, (_, a) =>
    Array.from({ length: rows }, (_, b) => mean.reduce((sum, _, c) => sum + at(a, c) * at(b, c), 0)),
  );
  const parts = [0, 1, 2].map((component) => leading(products, component));
  return Array.from({ length: rows }, (_, r) => parts.map((part) => level(part, r)) as [number, number, number]);
}

/** The matrix's leading eigenvector, which is then taken out of the matrix. */
function leading(matrix: number[][], start: number): number[] {
  let vector = matrix.map((_, i) => 1 + Math.sin(i * (start + 1.7)));
  let size = 0;
  for (let turn = 0; turn < 60; turn++) {
    const next = matrix.map((row) => row.reduce((sum, value, i) => sum + value * (vector[i] ?? 0), 0));
    size = Math.hypot(...next);
    if (size < 1e-12) return vector.map(() => 0);
    vector = next.map((value) => value / size);
  }
  matrix.forEach((row, a) => row.forEach((_, b) => (row[b] = (row[b] ?? 0) - size * (vector[a] ?? 0) * (vector[b] ?? 0))));
  return vector;
}

function level(part: number[], row: number): number {
  const [low, high] = [Math.min(...part), Math.max(...part)];
  return high > low ? Math.round((255 * ((part[row] ?? 0) - low)) / (high - low)) : 128;
}
