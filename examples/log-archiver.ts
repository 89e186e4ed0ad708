/**
 * Log archiver: a day of logs, gzipped, kept in the RAM of another machine, and read back to be compared.
 * Nothing is ever whole in memory: lines are made, compressed, sent, fetched, decompressed and compared a
 * piece at a time, so this program stays small however long the log is.
 *
 * LINES=n             lines (default 1 000 000, at least 1 GB)
 * TARGET=name         the peer that keeps the archive (default: any with room)
 * MEMCLOUD_SOCKET     the daemon of this machine, if not the usual one
 * HOLDER_SOCKET       the peer's own socket, where it is on this machine: then its growth is shown as well
 */
import { setInterval } from 'node:timers';
import type { Writable } from 'node:stream';
import { createGunzip, createGzip } from 'node:zlib';
import { MemCloud, type Handle } from 'memcloud';

const MIB = 2 ** 20;
const LINES_PER_PIECE = 32;
const LINE_SIZE_MAX_BYTES = 2048;
const GUNZIP_PIECE_BYTES = 4096;
const PIECE_SIZE_MAX_BYTES = 48 * 1024;
const SAMPLE_INTERVAL_MS = 100;
const AGENTS = ['Mozilla/5.0 (X11; Linux x86_64)', 'curl/8.5.0', 'kube-probe/1.31', 'Go-http/2.0'];
const PATHS = ['/api/v1/orders', '/api/v1/users', '/static/app.js', '/healthz', '/api/v2/search'];

/** A small generator of numbers: one seed, one log. */
function numbersFrom(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) * below) >>> 24;
  };
}

/**
 * The log: JSON lines of about 1.1 kB, the same ones each time. What is yielded is borrowed until the next:
 * a gigabyte of buffers that nobody needs any more would be this program's greatest use of memory.
 */
function* logLines(count: number): Generator<Buffer> {
  const piece = Buffer.alloc(LINES_PER_PIECE * LINE_SIZE_MAX_BYTES);
  const below = numbersFrom(7);
  const hex = (length: number): string => {
    let text = '';
    while (text.length < length) text += (below(2 ** 20) + 2 ** 20).toString(16).slice(1);
    return text.slice(0, length);
  };
  for (let line = 0; line < count;) {
    let text = '';
    for (const end = Math.min(count, line + LINES_PER_PIECE); line < end; line += 1) {
      const path = PATHS[below(PATHS.length)];
      const status = below(50) === 0 ? 500 : 200;
      text += JSON.stringify({
        time: new Date(1_700_000_000_000 + line * 86).toISOString(),
        level: status === 500 ? 'error' : 'info',
        host: `web-${below(40)}.rack-${below(8)}.example.net`,
        signature: hex(128),
        trace: hex(32),
        span: hex(16),
        request: {
          method: 'GET',
          path,
          query: `page=${below(1000)}&sort=created`,
          bytes: below(9000),
        },
        headers: {
          agent: AGENTS[below(AGENTS.length)],
          accept: 'application/json',
          cookie: hex(96),
        },
        response: {
          status,
          bytes: below(99_999),
          ms: below(900),
          cache: below(3) === 0 ? 'hit' : 'miss',
        },
        message:
          `request to ${path} finished with ${status} after the usual steps were taken: `.repeat(6),
      });
      text += '\n';
    }
    yield piece.subarray(0, piece.write(text, 'latin1'));
  }
}

/** What the program and its daemons have taken at most, above where they began. */
class Growth {
  readonly #daemons: readonly { readonly name: string; readonly cloud: MemCloud }[];
  readonly #before = new Map<string, number>();
  readonly #most = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(daemons: readonly { readonly name: string; readonly cloud: MemCloud }[]) {
    this.#daemons = daemons;
  }

  async start(): Promise<void> {
    await this.#look();
    for (const [name, bytes] of this.#most) this.#before.set(name, bytes);
    this.#timer = setInterval(() => void this.#look().catch(() => undefined), SAMPLE_INTERVAL_MS);
  }

  async stop(): Promise<ReadonlyMap<string, number>> {
    clearInterval(this.#timer);
    await this.#look();
    return new Map(
      [...this.#most].map(([name, bytes]) => [name, bytes - (this.#before.get(name) ?? 0)]),
    );
  }

  async #look(): Promise<void> {
    for (const { name, cloud } of this.#daemons) {
      const { residentBytes } = await cloud.stats();
      this.#most.set(name, Math.max(residentBytes, this.#most.get(name) ?? 0));
    }
  }
}

/** Compares what comes with the log made again. @returns bytes that came, and bytes that differ */
async function compare(
  archive: AsyncIterable<Buffer>,
  lineCount: number,
): Promise<{ bytes: number; different: number }> {
  const expected = logLines(lineCount);
  let wanted: Buffer = Buffer.alloc(0);
  let bytes = 0;
  let different = 0;
  for await (const piece of archive) {
    let at = 0;
    while (at < piece.length) {
      if (wanted.length === 0) {
        const next = expected.next();
        if (next.done === true) {
          different += piece.length - at;
          break;
        }
        wanted = next.value;
      }
      const length = Math.min(wanted.length, piece.length - at);
      const got = piece.subarray(at, at + length);
      if (!got.equals(wanted.subarray(0, length))) {
        for (let index = 0; index < length; index += 1) {
          if (got[index] !== wanted[index]) different += 1;
        }
      }
      wanted = wanted.subarray(length);
      at += length;
    }
    bytes += piece.length;
  }
  different += wanted.length;
  for (const rest of expected) different += rest.length;
  return { bytes, different };
}

/** Waits until a stream has taken bytes. */
function written(stream: Writable, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/**
 * Fetches the archive into `gunzip`, by way of one buffer: what came is garbage at once. Held until all of it
 * is unpacked, it would outlive two of the many small collections, and then wait for a large one.
 */
async function fetchInto(gunzip: Writable, cloud: MemCloud, handle: Handle): Promise<void> {
  const own = Buffer.alloc(PIECE_SIZE_MAX_BYTES);
  for await (const piece of cloud.loadStream(handle) as AsyncIterable<Buffer>) {
    for (let at = 0; at < piece.length; at += own.length) {
      await written(gunzip, own.subarray(0, piece.copy(own, 0, at)));
    }
  }
  gunzip.end();
}

/** Sends the log. @returns the object, and the bytes of the log */
async function archive(
  cloud: MemCloud,
  lineCount: number,
  target: string | undefined,
): Promise<{ handle: Handle; rawBytes: number }> {
  let rawBytes = 0;
  const gzip = createGzip({ level: 1 });
  const feed = async (): Promise<void> => {
    for (const piece of logLines(lineCount)) {
      rawBytes += piece.length;
      await written(gzip, piece);
    }
    gzip.end();
  };
  const where = target === undefined ? { remote: true } : { target };
  const [handle] = await Promise.all([cloud.storeStream(gzip, where), feed()]);
  return { handle, rawBytes };
}

async function main(): Promise<void> {
  const lineCount = Number(process.env['LINES'] ?? 1_000_000);
  const { TARGET, HOLDER_SOCKET } = process.env;
  const cloud = new MemCloud();
  await cloud.connect();
  const holder = HOLDER_SOCKET === undefined ? undefined : new MemCloud(HOLDER_SOCKET);
  const growth = new Growth([
    { name: 'local daemon', cloud },
    ...(holder === undefined ? [] : [{ name: 'holder', cloud: holder }]),
  ]);
  try {
    await growth.start();
    const startMs = performance.now();
    const { handle, rawBytes } = await archive(cloud, lineCount, TARGET);
    const storedMs = performance.now();
    const { sizeBytes, holderName } = handle.object;
    // Small pieces: garbage of megabytes in few objects is what a collector notices late.
    const fetched = createGunzip({ chunkSize: GUNZIP_PIECE_BYTES });
    const [{ bytes, different }] = await Promise.all([
      compare(fetched, lineCount),
      fetchInto(fetched, cloud, handle),
    ]);
    const loadedMs = performance.now();
    const grown = await growth.stop();
    await cloud.free(handle);
    const report = {
      lines: lineCount,
      rawBytes,
      storedBytes: sizeBytes,
      holder: holderName,
      storeSeconds: round((storedMs - startMs) / 1000),
      loadSeconds: round((loadedMs - storedMs) / 1000),
      comparedBytes: bytes,
      differentBytes: different,
      clientPeakMiB: round(process.resourceUsage().maxRSS / 1024),
      localDaemonGrowthMiB: round((grown.get('local daemon') ?? 0) / MIB),
      /** What it took beyond the bytes that it keeps. */
      holderGrowthAboveStoredMiB:
        holder === undefined ? null : round(((grown.get('holder') ?? 0) - sizeBytes) / MIB),
    };
    process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    if (different > 0 || bytes !== rawBytes) process.exitCode = 1;
  } finally {
    cloud.close();
    holder?.close();
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

await main();
