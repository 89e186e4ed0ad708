/**
 * The pool as a disk, checked by content: random bytes are written over NBD, read back and compared
 * by SHA-256, also after a provider was killed, and trimmed, which must give the RAM back.
 */
import { createHash, randomBytes } from 'node:crypto';
import { MemcloudError } from '../../common/errors.ts';
import { formatSize } from '../../common/units.ts';
import { NbdClient } from '../../nbd-server/client/connection.ts';

const CHUNK_SIZE_BYTES = 1024 * 1024;
const CHUNKS_IN_FLIGHT = 8;

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function rate(bytes: number, startMs: number): string {
  const seconds = (performance.now() - startMs) / 1000;
  return `${formatSize(bytes)} at ${formatSize(Math.round(bytes / seconds))}/s`;
}

/** A volume served on a Unix socket, and what must be on it. */
export class DiskCheck {
  readonly #client: NbdClient;
  readonly #digests: string[] = [];

  private constructor(client: NbdClient) {
    this.#client = client;
  }

  /** Connects to the export. Errors as `NbdClient.connect`. */
  static async open(socketPath: string, exportName: string): Promise<DiskCheck> {
    return new DiskCheck(await NbdClient.connect({ path: socketPath }, { exportName }));
  }

  /** Writes random bytes all over the disk and flushes. */
  async write(sizeBytes: number): Promise<string> {
    const startMs = performance.now();
    await this.#eachChunk(sizeBytes, async (offset, index) => {
      const chunk = randomBytes(CHUNK_SIZE_BYTES);
      this.#digests[index] = digest(chunk);
      await this.#client.write(offset, chunk);
    });
    await this.#client.flush();
    return rate(sizeBytes, startMs);
  }

  /** Reads everything back and compares. @throws MemcloudError `ERR_DATA_LOST` on any other byte */
  async verify(sizeBytes: number): Promise<string> {
    const startMs = performance.now();
    let wrong = 0;
    await this.#eachChunk(sizeBytes, async (offset, index) => {
      const chunk = await this.#client.read(offset, CHUNK_SIZE_BYTES);
      if (digest(chunk) !== this.#digests[index]) wrong += 1;
    });
    if (wrong > 0) throw new MemcloudError('ERR_DATA_LOST', `${wrong} MiB read back other bytes`);
    return `${rate(sizeBytes, startMs)}, every SHA-256 equal`;
  }

  /** Drops every page. */
  async trim(sizeBytes: number): Promise<void> {
    await this.#client.trim(0, sizeBytes);
  }

  /** Disconnects. */
  async close(): Promise<void> {
    await this.#client.close();
  }

  async #eachChunk(
    sizeBytes: number,
    work: (offset: number, index: number) => Promise<void>,
  ): Promise<void> {
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let index = next; index * CHUNK_SIZE_BYTES < sizeBytes; index = next) {
        next += 1;
        await work(index * CHUNK_SIZE_BYTES, index);
      }
    };
    await Promise.all(Array.from({ length: CHUNKS_IN_FLIGHT }, worker));
  }
}
