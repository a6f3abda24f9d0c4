/** Image files made in the browser. */

/** PNG bytes of `{ width, height, rgba }`. */
export async function png(page, image) {
  const bytes = await page.evaluate(async ({ width, height, rgba }) => {
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(rgba), width), 0, 0);
    const blob = await canvas.convertToBlob({ type: 'image/png' });
    return Array.from(new Uint8Array(await blob.arrayBuffer()));
  }, image);
  return Buffer.from(bytes);
}
