/** A server with a memory device on a Unix socket of its own, torn down with the test. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { silentLogger } from '../../common/log.ts';
import { NbdServer, type NbdServerOptions } from '../../nbd-server/server.ts';
import { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts';

/** A running server. */
export interface NbdFixture {
  server: NbdServer;
  device: MemoryDevice;
  /** Where it listens, for net.connect and for the raw client. */
  target: { path: string };
  /** The same for judges. */
  uri: string;
}

/** What a test may choose. */
export interface NbdFixtureOptions {
  sizeBytes?: number;
  device?: MemoryDeviceOptions;
  readOnly?: boolean;
  server?: Partial<NbdServerOptions>;
}

/** Starts a server for the test `t`. */
export async function startNbdServer(
  t: Test,
  options: NbdFixtureOptions = {},
): Promise<NbdFixture> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'nbd-'));
  const socketPath = path.join(directory, 's.sock');
  const device = new MemoryDevice(options.sizeBytes ?? 2 ** 20, options.device);
  const server = new NbdServer({ logger: silentLogger, ...options.server });
  server.addExport(device, { readOnly: options.readOnly ?? false });
  await server.listen({ path: socketPath });
  t.teardown(async () => {
    await server.close(500);
    fs.rmSync(directory, { recursive: true, force: true });
  });
  return {
    server,
    device,
    target: { path: socketPath },
    uri: `nbd+unix:///?socket=${socketPath}`,
  };
}

/** The seed of a random test: SEED of the environment, or a new one; printed by the caller. */
export function testSeed(): number {
  const given = process.env['SEED'];
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}

/** mulberry32: small, seeded. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Waits until the condition holds; rejects after 15 s. */
export async function eventually(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within 15 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
