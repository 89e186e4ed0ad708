import t from 'tap';
import type { ManagedLink } from '../../../common/managed.ts';
import { GuestDoor, type DoorPeers } from '../../../daemon/managed/provider-door.ts';

const PROVIDER = {
  ...{ nodeId: 'a'.repeat(32), publicKey: 'b'.repeat(64), name: 'alpha', address: 'alpha:7070' },
  ...{ hostId: '', zone: '' },
};

interface Scene {
  readonly door: GuestDoor;
  /** What was done, in order. */
  readonly log: string[];
  readonly peers: DoorPeers;
  readonly link: { up: boolean };
  /** A session comes or goes. */
  readonly setUp: (up: boolean) => void;
  readonly pin: (publicKey: Uint8Array) => boolean;
  /** Time passes: what waited is run; returns how long each was to wait. */
  readonly pass: () => number[];
}

function scene(dialled: readonly string[] = []): Scene {
  const log: string[] = [];
  const link = { nodeId: PROVIDER.nodeId, name: 'alpha', up: false } as ManagedLink & {
    up: boolean;
  };
  let listener: (link: ManagedLink) => void = () => undefined;
  let pin: (peer: { readonly publicKey: Uint8Array }) => boolean = () => false;
  const peers: DoorPeers = {
    managedLinks: {
      find: (nodeId) => (nodeId === link.nodeId ? link : undefined),
      at: () => undefined,
      onChange: (added) => {
        listener = added;
        return () => log.push('stop');
      },
    },
    admissions: {
      admit: (key, ttlMs) => log.push(`admit ${key.length} ${ttlMs}`),
      dismiss: (nodeId) => log.push(`dismiss ${nodeId.slice(0, 1)}`),
      isGuest: () => true,
    },
    dialled,
    connect: (address, expected) => {
      log.push(`connect ${address} ${expected.asGuest}`);
      ({ pin } = expected);
    },
    stopDialling: (address) => void log.push(`stop ${address}`),
  };
  const setUp = (up: boolean): void => {
    link.up = up;
    listener(link);
  };
  const waiting = new Set<{ run: () => void; delayMs: number }>();
  const door = new GuestDoor(peers, (run, delayMs) => {
    const wait = { run, delayMs };
    waiting.add(wait);
    return () => waiting.delete(wait);
  });
  const pass = (): number[] => {
    const due = [...waiting];
    waiting.clear();
    for (const { run } of due) run();
    return due.map(({ delayMs }) => delayMs);
  };
  return { door, log, peers, link, setUp, pin: (publicKey) => pin({ publicKey }), pass };
}

t.test('a provider is let in, dialled by its key, and left', (t) => {
  const { door, log, pin, pass } = scene();
  door.open(PROVIDER, 1000);
  t.same(log.splice(0), ['admit 32 61000', 'connect alpha:7070 true']);
  t.ok(pin(Buffer.alloc(32, 0xbb)));
  t.notOk(pin(Buffer.alloc(32, 0xbc)));
  t.ok(door.has(PROVIDER.nodeId));
  door.open(PROVIDER, 2000);
  t.same(log.splice(0), ['admit 32 62000'], 'again: only for longer');
  door.close(PROVIDER);
  t.same(log, [], 'it stays a while: reads of pages that are gone get its answer');
  t.ok(door.has(PROVIDER.nodeId));
  t.same(pass(), [60_000]);
  t.same(log.splice(0), ['stop alpha:7070', 'dismiss a']);
  door.close(PROVIDER);
  t.same([pass(), log], [[], []]);
  t.notOk(door.has(PROVIDER.nodeId));
  t.end();
});

t.test('a new lease while it stays: it is not left', (t) => {
  const { door, log, pass } = scene();
  door.open(PROVIDER, 1000);
  door.close(PROVIDER);
  door.open(PROVIDER, 2000);
  t.same(pass(), []);
  t.same(log, ['admit 32 61000', 'connect alpha:7070 true', 'admit 32 62000']);
  door.close(PROVIDER);
  door.end();
  t.same(pass(), [], 'nothing is left to wait for');
  t.end();
});

t.test('one that is connected already is dialled when that ends', (t) => {
  const { door, log, link, setUp } = scene();
  link.up = true;
  door.open(PROVIDER, 1000);
  t.same(log.splice(0), ['admit 32 61000']);
  setUp(false);
  t.same(log.splice(0), ['connect alpha:7070 true']);
  setUp(true);
  setUp(false);
  t.same(log, [], 'the dialler goes on by itself');
  t.end();
});

t.test('an address that somebody else keeps connected stays so', (t) => {
  const { door, log, pass } = scene([PROVIDER.address]);
  door.open(PROVIDER, 1000);
  door.close(PROVIDER);
  pass();
  t.same(log, ['admit 32 61000', 'dismiss a']);
  t.end();
});

t.test('a provider that moved is dialled where it is now', (t) => {
  const { door, log } = scene();
  door.open(PROVIDER, 1000);
  log.length = 0;
  door.open({ ...PROVIDER, address: 'beta:7070' }, 1000);
  t.same(log, ['admit 32 61000', 'stop alpha:7070', 'connect beta:7070 true']);
  t.end();
});

t.test('one that borrows from this node stays a guest', (t) => {
  const { door, log, pass } = scene();
  door.lendsTo = () => true;
  door.open(PROVIDER, 1000);
  log.length = 0;
  door.close(PROVIDER);
  pass();
  t.same(log, ['stop alpha:7070']);
  door.end();
  t.equal(log.at(-1), 'stop');
  t.end();
});
