/** What the page and an encoder's worker say to each other; one worker holds one encoder. */
import type { CosineMap, EncoderInfo, EncoderProgress, LabelScores } from '@reca/web/encoders';
import type { Backend, RuntimeInfo } from './protocol';

export type { CosineMap, EncoderInfo, EncoderProgress, LabelScores };

/** Where a checkpoint's files are: the URL of their folder, or the files themselves. */
export type EncoderSource = string | File[];

/** Arguments and answer of every request. */
export interface EncoderCalls {
  /** Opens a device and loads a checkpoint. */
  open: [{ source: EncoderSource; backend: Backend }, { info: EncoderInfo; device: RuntimeInfo }];
  /** The picture as the encoder sees it. */
  fit: [{ image: Uint8Array }, ImageData];
  embed: [{ image: Uint8Array }, Float32Array];
  zeroShot: [{ image: Uint8Array; labels: string[]; template: string }, LabelScores];
  /** Against the whole picture's vector where there is no label. */
  cosineMap: [{ image: Uint8Array; label: string | null; template: string }, CosineMap];
}
