/** What calls of both runtimes take. */

/** An image file (PNG, JPEG, WebP, GIF) or its bytes. */
export type ImageSource = Blob | ArrayBuffer | Uint8Array;

export interface Cancellable {
  signal?: AbortSignal;
}

export async function bytes(image: ImageSource): Promise<Uint8Array> {
  if (image instanceof Uint8Array) return image;
  return new Uint8Array(image instanceof Blob ? await image.arrayBuffer() : image);
}
