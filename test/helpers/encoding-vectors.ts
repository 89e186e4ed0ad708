/** The vectors that hold both SDKs to the same bytes. Bytes are hex. */
import fs from 'node:fs';
import path from 'node:path';
import type { Encoding } from '../../sdk/encoding.ts';

const FOLDER = path.join(import.meta.dirname, '../../../test/vectors/object-encoding');

/** Everything in `test/vectors/object-encoding`. */
export interface EncodingVectors {
  notes: { meta: string; encoding: Encoding; rest: string }[];
  refused: string[];
  sealed: {
    key: string;
    salt: string;
    name: string;
    note: string;
    plain: string;
    sealed: string;
    opens: boolean;
  }[];
  compressed: { what: string; by: 'lz4' | 'zstd'; plain: string; packed: string }[];
  damaged: { what: string; packed: string }[];
}

/** Reads them. */
export function encodingVectors(): EncodingVectors {
  const read = (name: string): unknown =>
    JSON.parse(fs.readFileSync(path.join(FOLDER, name), 'utf8'));
  const { vectors } = read('sealed.json') as { vectors: EncodingVectors['sealed'] };
  const notes = read('notes.json') as Pick<EncodingVectors, 'notes' | 'refused'>;
  const frames = read('compressed.json') as Pick<EncodingVectors, 'compressed' | 'damaged'>;
  return { ...notes, ...frames, sealed: vectors };
}
