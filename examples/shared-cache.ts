/**
 * Shared cache: slow work is done once for the whole LAN. Here it is Brotli at its slowest, as a build does
 * with the files of a web site; each result is kept under the hash of what it was made of. A second machine
 * that runs the same build finds the results in the RAM of the first.
 *
 * Results are `cache` objects: they go when their time is over or their holder wants the room, and then are
 * made again. They are sealed, so that the machines that share a seal key believe each other, and nobody else.
 *
 *   shared-cache.js FILE...     MEMCLOUD_SOCKET and MEMCLOUD_SEAL_KEY choose the daemon and the key
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { brotliCompressSync, constants } from 'node:zlib';
import { MemCloud, MemcloudError } from 'memcloud';

const TTL_MS = 24 * 3600 * 1000;

function slowWork(content: Buffer): Buffer {
  return brotliCompressSync(content, {
    params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY },
  });
}

/** The result for some content, and whether it had been made before, by whomever. */
async function cached(
  cloud: MemCloud,
  content: Buffer,
): Promise<{ result: Buffer; isFound: boolean }> {
  const key = `brotli-11/${createHash('sha256').update(content).digest('hex')}`;
  try {
    const found = await cloud.find(key, { sealed: true });
    if (found !== undefined) return { result: found, isFound: true };
  } catch (error) {
    // Somebody without our key wrote there, or we have none yet: it is made again.
    if (!(error instanceof MemcloudError) || error.code !== 'ERR_OBJECT_SEAL') throw error;
  }
  const result = slowWork(content);
  try {
    await cloud.set(key, result, { mode: 'cache', ttlMs: TTL_MS, sealed: true });
  } catch (error) {
    // A cache that is full costs time and nothing else.
    if (!(error instanceof MemcloudError) || error.code !== 'ERR_LEASE_CAPACITY') throw error;
  }
  return { result, isFound: false };
}

async function main(): Promise<void> {
  const cloud = new MemCloud();
  await cloud.connect();
  const counts = { found: 0, made: 0, bytes: 0, resultBytes: 0 };
  try {
    for (const file of process.argv.slice(2)) {
      const content = await readFile(file);
      const { result, isFound } = await cached(cloud, content);
      counts.bytes += content.length;
      counts.resultBytes += result.length;
      if (isFound) counts.found += 1;
      else counts.made += 1;
    }
  } finally {
    cloud.close();
  }
  process.stdout.write(`${JSON.stringify(counts)}\n`);
}

await main();
