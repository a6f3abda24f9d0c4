/** A CLIP or SigLIP checkpoint in a worker of its own: embeddings, scores of labels, cosines of patches. */
import { Connection, started } from './connection';
import type { CosineMap, EncoderCalls, EncoderInfo, EncoderProgress, LabelScores } from './encoder-protocol';
import { RecaError } from './error';
import type { Backend, RuntimeInfo } from './protocol';
import { type Cancellable, type ImageSource, address, bytes } from './source';

export type { CosineMap, EncoderInfo, EncoderProgress, LabelScores } from './encoder-protocol';

export interface OpenOptions extends Cancellable {
  /** Default `auto`: WebGPU where a hardware adapter is found, else the CPU. */
  backend?: Backend;
  /** Bytes and tensors that are loaded so far. */
  onProgress?: (progress: EncoderProgress) => void;
}

export interface LabelOptions extends Cancellable {
  /** The sentence around a label, which stands for {}. Default "This is a photo of {}." */
  template?: string;
}

export interface MapOptions extends LabelOptions {
  /** Compare the patches with this label and not with the whole picture. */
  label?: string;
}

const TEMPLATE = 'This is a photo of {}.';

export class Encoder {
  private constructor(
    private readonly connection: Connection<EncoderCalls, EncoderProgress>,
    /** What was loaded. */
    readonly info: EncoderInfo,
    /** What it computes on, and why. */
    readonly device: RuntimeInfo,
  ) {}

  /**
   * Loads a checkpoint in the Hugging Face layout from the URL of its folder, or from its files. Weights
   * go tensor by tensor from there into memory. Fails with `out_of_memory` before it reads them if they
   * will not fit.
   */
  static async open(
    source: string | URL | Iterable<File>,
    { backend = 'auto', signal, onProgress }: OpenOptions = {},
  ): Promise<Encoder> {
    const worker = started(() => new Worker(new URL('./encoder-worker.ts', import.meta.url), { type: 'module', name: 'encoder' }));
    const connection = new Connection<EncoderCalls, EncoderProgress>(worker);
    try {
      const where = typeof source === 'string' || source instanceof URL ? address(source) : [...source];
      const { info, device } = await connection.call('open', { source: where, backend }, { signal, onProgress });
      return new Encoder(connection, info, device);
    } catch (thrown) {
      connection.close(new RecaError('aborted', 'the encoder was not opened'));
      throw thrown;
    }
  }

  /** The picture as the encoder sees it, resized and cropped. */
  async fit(image: ImageSource, { signal }: Cancellable = {}): Promise<ImageData> {
    return this.connection.call('fit', { image: await bytes(image) }, { signal });
  }

  /** The picture's vector in the space that it shares with texts, not normalised. */
  async embed(image: ImageSource, { signal }: Cancellable = {}): Promise<Float32Array> {
    return this.connection.call('embed', { image: await bytes(image) }, { signal });
  }

  /** How well each label fits the picture: CLIP's softmax over them, SigLIP's sigmoid of each. */
  async zeroShot(
    image: ImageSource,
    labels: string[],
    { template = TEMPLATE, signal }: LabelOptions = {},
  ): Promise<LabelScores> {
    return this.connection.call('zeroShot', { image: await bytes(image), labels, template }, { signal });
  }

  /**
   * Cosines of the picture's patches with the whole picture's vector, or with a label's. A patch goes
   * into that space by itself: CLIP's as its class token does, through the last norm and the projection;
   * SigLIP's through the pooling head, as if it were the only one.
   */
  async cosineMap(
    image: ImageSource,
    { label, template = TEMPLATE, signal }: MapOptions = {},
  ): Promise<CosineMap> {
    const request = { image: await bytes(image), label: label ?? null, template };
    return this.connection.call('cosineMap', request, { signal });
  }

  /** Ends the worker and frees its memory; calls under way fail with `aborted`. */
  dispose(): void {
    this.connection.close(new RecaError('aborted', 'the encoder was disposed of'));
  }
}
