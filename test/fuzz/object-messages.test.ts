/**
 * Bodies about objects from a trusted peer that says anything, and replies of a holder that does: a
 * value or the protocol's error, nothing of others changes, and memory stays bounded.
 */
import t from 'tap';
import { MemcloudError } from '../../common/errors.ts';
import type { ObjectLink } from '../../common/objects.ts';
import { decodeRequest, encodeRequest, type ObjectRequest } from '../../objects/messages.ts';
import { RemoteObjects } from '../../objects/remote.ts';
import { ObjectServer } from '../../objects/service.ts';
import { fuzz, type Random } from '../helpers/fuzz.ts';
import { idOf, poolRig } from '../helpers/object-pool.ts';
import { ANNA, BERT, key, makeStore } from '../helpers/object-rig.ts';
import { sessionPair } from '../helpers/session-pair.ts';

const MIB = 2 ** 20;

/** A request, mostly one that can be done. */
function randomRequest(random: Random): ObjectRequest {
  const text = `k${random.below(20)}`;
  const name = random.below(3) > 0 ? key(text) : ({ kind: 'block', id: '7' } as const);
  const options = {
    mode: random.pick(['pinned', 'cache'] as const),
    readers: random.pick(['trusted', 'private', [ANNA]] as const),
    ...(random.below(4) === 0 ? { ifVersion: random.below(3) } : {}),
    ...(random.below(4) === 0 ? { ttlMs: 1 + random.below(1000) } : {}),
    meta: random.bytes(random.below(20)),
  };
  const upload = String(random.below(6));
  const whole = random.below(8) === 0 ? undefined : text;
  return random.pick<() => ObjectRequest>([
    () => ({ method: 'put', key: whole, options, value: random.bytes(random.below(500)) }),
    () => ({ method: 'get', name, offset: random.below(300), length: 400, ifVersion: undefined }),
    () => ({ method: 'stat', name }),
    () => ({ method: 'delete', name, ifVersion: undefined }),
    () => ({
      method: 'list',
      query: { kind: 'all', countMax: 1 + random.below(9), patterns: ['k*'] },
    }),
    () => ({ method: random.pick(['flush', 'usage']) }),
    () => ({ method: 'begin', key: whole, options, sizeHint: random.below(1000) }),
    () => ({ method: 'append', upload, offset: random.below(2) * 10, piece: random.bytes(10) }),
    () => ({ method: random.pick(['commit', 'abort']), upload }),
  ])();
}

/** @returns whether it was refused as no request */
function serveBad(server: ObjectServer, body: Buffer): boolean {
  try {
    server.serveObject(ANNA, body);
    return false;
  } catch (error) {
    if (!isProtocol(error)) throw error;
    return true;
  }
}

function isProtocol(error: unknown): boolean {
  return error instanceof MemcloudError && error.code === 'ERR_PEER_PROTOCOL';
}

t.test('any bytes are a request or none', async (t) => {
  await fuzz(t, (random) => {
    for (let round = 0; round < 50; round += 1) {
      const good = encodeRequest(randomRequest(random));
      const body = random.below(3) > 0 ? random.mutate(good) : random.bytes(random.below(300));
      try {
        const request = decodeRequest(body);
        if (!encodeRequest(request).equals(body))
          throw new Error(`other bytes: ${body.toString('hex')}`);
      } catch (error) {
        if (!isProtocol(error)) throw error;
      }
    }
  });
});

t.test(
  '10 000 bodies of a trusted peer: no crash, bounded memory, nothing of others',
  async (t) => {
    await fuzz(t, (random) => {
      const rig = makeStore();
      rig.memory.offeredBytes = 4 * MIB;
      rig.bert.put('bert', Buffer.from('mine'), {});
      rig.bert.put('secret', Buffer.from('mine'), { readers: 'private' });
      const server = new ObjectServer(rig.store, (error) => {
        throw error;
      });
      const before = process.memoryUsage.rss();
      let bodies = 0;
      let breaches = 0;
      while (bodies < 10_000) {
        const serveObject = (body: Buffer): Buffer => server.serveObject(ANNA, body);
        const [a, b] = sessionPair({}, { serveObject });
        try {
          while (bodies < 10_000) {
            for (let count = 1 + random.below(20); count > 0; count -= 1) {
              const good = encodeRequest(randomRequest(random));
              bodies += 1;
              // A breach costs a session, and a session much memory: most go past it.
              const isBad = random.below(3) === 0;
              if (isBad && random.below(500) > 0) {
                breaches += serveBad(server, random.mutate(good)) ? 1 : 0;
                continue;
              }
              const body = isBad ? random.mutate(good) : good;
              a.machine.objects.request(body.subarray(0, 60_000), 60_000, () => undefined);
            }
            b.receive(a.flush());
            a.receive(b.flush());
            rig.time.nowMs += random.below(50);
            rig.store.tick(rig.time.nowMs);
          }
        } catch (error) {
          if (!isProtocol(error)) throw error;
          breaches += 1;
          server.onRequesterGone(ANNA);
        }
        a.free();
        b.free();
      }
      const grownBytes = process.memoryUsage.rss() - before;
      if (grownBytes > 512 * MIB) throw new Error(`${grownBytes} bytes more`);
      if (breaches === 0) throw new Error('no body was refused');
      const mine = Buffer.from(rig.bert.get(key('secret'), 0, 9)?.bytes ?? []);
      if (mine.toString() !== 'mine' || rig.bert.stat(key('bert'))?.owner !== BERT) {
        throw new Error('something of another node changed');
      }
      server.onRequesterRevoked(ANNA);
      if (rig.store.usageOf(ANNA).chargedBytes !== 0) throw new Error('it still has something');
      rig.end();
      rig.memory.close();
    });
  },
);

t.test('any reply of a holder is a value or its breach', async (t) => {
  const { links, nodeId } = poolRig(t, 1);
  const remote = new RemoteObjects(links[0]!, nodeId);
  await remote.put('k1', Buffer.from('value'), {});
  await fuzz(t, async (random) => {
    const link: ObjectLink = {
      ...{ nodeId: idOf(1), nodeName: 'n', up: true, freeBytes: 1 },
      request: async (body) => {
        const reply = await links[0]!.request(body);
        return random.below(2) === 0 ? random.mutate(reply) : random.bytes(random.below(200));
      },
    };
    const lying = new RemoteObjects(link, nodeId);
    const calls: (() => Promise<unknown>)[] = [
      () => lying.get(key('k1'), 0, 5),
      () => lying.stat(key('k1')),
      () => lying.put('k2', Buffer.alloc(5), {}),
      () => lying.list({}),
      () => lying.usage(),
      () => lying.begin('k3', {}),
      () => lying.delete(key('k9')),
    ];
    try {
      await random.pick(calls)();
    } catch (error) {
      if (!(error instanceof MemcloudError)) throw error;
    }
  });
});
