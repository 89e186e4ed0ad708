/** How far a value is, on one line of stderr that is written over and taken away at the end. */
import { formatSize } from '../../common/units.ts';

const INTERVAL_MS = 250;
/** Shorter transfers say nothing. */
const SILENT_MS = 500;

/** The line: bytes so far, of how many if known, and the rate. */
export function progressText(
  bytes: number,
  sizeBytes: number | undefined,
  elapsedMs: number,
): string {
  const rate = elapsedMs <= 0 ? '' : `, ${formatSize(Math.round((bytes / elapsedMs) * 1000))}/s`;
  if (sizeBytes === undefined || sizeBytes === 0) return `${formatSize(bytes)}${rate}`;
  const percent = Math.min(100, Math.floor((bytes / sizeBytes) * 100));
  return `${formatSize(bytes)} of ${formatSize(sizeBytes)} (${percent} %)${rate}`;
}

/** Shows progress when stderr is a terminal, and nothing otherwise. */
export class Progress {
  readonly #sizeBytes: number | undefined;
  readonly #startMs = performance.now();
  #shownMs = 0;
  #isShown = false;

  /** @param sizeBytes - what is to come, if known */
  constructor(sizeBytes: number | undefined) {
    this.#sizeBytes = sizeBytes;
  }

  /** So many bytes are through. */
  show(bytes: number): void {
    const elapsedMs = performance.now() - this.#startMs;
    if (!process.stderr.isTTY || elapsedMs < SILENT_MS) return;
    if (elapsedMs - this.#shownMs < INTERVAL_MS) return;
    this.#shownMs = elapsedMs;
    this.#isShown = true;
    process.stderr.write(`\r\u001b[K${progressText(bytes, this.#sizeBytes, elapsedMs)}`);
  }

  /** Takes the line away. */
  end(): void {
    if (this.#isShown) process.stderr.write('\r\u001b[K');
    this.#isShown = false;
  }
}

/** Passes bytes on and counts them. */
export async function* counted(
  bytes: AsyncIterable<Uint8Array>,
  progress: Progress,
): AsyncGenerator<Uint8Array> {
  let count = 0;
  for await (const chunk of bytes) {
    count += chunk.length;
    progress.show(count);
    yield chunk;
  }
}
