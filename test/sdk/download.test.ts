import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { MemcloudClient } from '../../sdk/client.ts';
import { download } from '../../sdk/download.ts';

const PIECE_BYTES = 48 * 1024;
const PIECE_COUNT = 64;
const UNSEALED = { mustBeSealed: false, sealKey: undefined };
const SIZE_BYTES = PIECE_COUNT * PIECE_BYTES;

/** A daemon with one value, which counts how many pieces lie with the caller or are on their way. */
function daemon(arrive: () => Promise<unknown>) {
  const asked: number[] = [];
  const object = {
    key: 'k',
    holder: 'h',
    version: 1,
    sizeBytes: SIZE_BYTES,
    meta: Buffer.alloc(0),
  };
  const call = async (_: string, params: { offset?: number }): Promise<unknown> => {
    const offset = params.offset ?? 0;
    asked.push(offset);
    await arrive();
    return { found: true, object, data: Buffer.alloc(PIECE_BYTES, offset / PIECE_BYTES) };
  };
  return { asked, client: { call } as unknown as MemcloudClient };
}

/** Time that passes only when a test says so. */
function standingClock(t: Test): { nowMs: number } {
  const clock = { nowMs: 1000 };
  t.intercept(performance, 'now', { value: () => clock.nowMs });
  return clock;
}

t.test('a reader that is slower than its pieces has none lying about', async (t) => {
  const clock = standingClock(t);
  const { asked, client } = daemon(async () => void (clock.nowMs += 1));
  const ahead: number[] = [];
  let count = 0;
  for await (const piece of download(client, { key: 'k' }, {}, UNSEALED, {})) {
    t.equal(piece[0], count, 'in order');
    count += 1;
    await turn();
    clock.nowMs += 20;
    ahead.push(asked.length - count);
  }
  t.equal(count, PIECE_COUNT);
  t.ok(Math.max(...ahead) <= 8);
  t.equal(Math.max(...ahead.slice(16)), 0, 'the next is asked for when it is wanted');
});

t.test('a reader that waits for its pieces has eight on their way', async (t) => {
  const clock = standingClock(t);
  const { asked, client } = daemon(async () => {
    for (let index = 0; index < 20; index += 1) await turn();
    clock.nowMs += 1;
  });
  const ahead: number[] = [];
  let count = 0;
  for await (const piece of download(client, { key: 'k' }, {}, UNSEALED, {})) {
    count += 1;
    ahead.push(asked.length - count);
    t.equal(piece.length, PIECE_BYTES);
  }
  t.equal(count, PIECE_COUNT);
  t.ok(Math.max(...ahead) >= 7, 'no fewer than may be');
});
