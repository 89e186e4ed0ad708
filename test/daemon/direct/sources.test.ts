import t from 'tap';
import type { DirectSource } from '../../../common/ports.ts';
import { chooseSources } from '../../../daemon/direct/sources.ts';

const GIB = 2 ** 30;

/** A provider of which only its description is looked at. */
function source(nodeName: string, freeBytes: number, up = true): DirectSource {
  const never = (): Promise<never> => Promise.reject(new Error('not called'));
  return {
    nodeId: `id-of-${nodeName}`,
    nodeName,
    up,
    usage: { offeredBytes: freeBytes + GIB, usedBytes: GIB, residentBytes: 0, leaseCount: 1 },
    host: '192.0.2.1',
    openDirect: never,
    directTicket: never,
    renewDirect: never,
    closeDirect: never,
    listDirect: never,
  };
}

const ALL = [
  source('a', 2 * GIB),
  source('b', 8 * GIB),
  source('c', 4 * GIB),
  source('d', 9 * GIB, false),
];
const NOTHING = { copies: undefined, providers: undefined, avoid: undefined };

t.test('the providers with the most room are chosen, two where two fit', (t) => {
  const cases: [string, Parameters<typeof chooseSources>[1], string][] = [
    ['two by default', { ...NOTHING, sizeBytes: GIB }, 'b c'],
    ['one where one fits', { ...NOTHING, sizeBytes: 8 * GIB }, 'b'],
    ['one when asked for', { ...NOTHING, sizeBytes: GIB, copies: 1 }, 'b'],
    ['the named', { ...NOTHING, sizeBytes: GIB, providers: ['A', 'id-of-c'] }, 'c a'],
    ['not the avoided', { ...NOTHING, sizeBytes: GIB, avoid: ['b'] }, 'c a'],
    ['an unknown name is easily avoided', { ...NOTHING, sizeBytes: GIB, avoid: ['x'] }, 'b c'],
  ];
  for (const [name, request, chosen] of cases) {
    t.equal(
      chooseSources(ALL, request)
        .map((each) => each.nodeName)
        .join(' '),
      chosen,
      name,
    );
  }
  t.end();
});

t.test('without kernel TLS only those behind a tunnel are chosen', (t) => {
  const tunnelled = (each: DirectSource): 'wireguard' | undefined =>
    each.nodeName === 'a' || each.nodeName === 'd' ? 'wireguard' : undefined;
  const chosen = chooseSources(ALL, { ...NOTHING, sizeBytes: GIB }, tunnelled);
  t.same(
    chosen.map(({ nodeName }) => nodeName),
    ['a'],
  );
  t.end();
});

t.test('what does not fit is refused with the numbers', (t) => {
  const refused = (request: Partial<Parameters<typeof chooseSources>[1]>): unknown => {
    try {
      return chooseSources(ALL, { ...NOTHING, sizeBytes: GIB, ...request });
    } catch (error) {
      return error;
    }
  };
  t.match(refused({ sizeBytes: 16 * GIB }), {
    code: 'ERR_VOLUME_CAPACITY',
    message: /16 GiB .* need a provider with that much room; free: b 8 GiB, c 4 GiB, a 2 GiB/,
  });
  t.match(refused({ sizeBytes: 6 * GIB, copies: 2 }), {
    code: 'ERR_VOLUME_CAPACITY',
    message: /need 2 providers/,
  });
  t.match(refused({ providers: ['d'] }), {
    code: 'ERR_VOLUME_CAPACITY',
    message: /no provider is up/,
  });
  t.match(
    (() => {
      try {
        return chooseSources(ALL, { ...NOTHING, sizeBytes: GIB }, () => undefined);
      } catch (error) {
        return error;
      }
    })(),
    { code: 'ERR_VOLUME_CAPACITY', message: /none that is up may be reached .* WireGuard/ },
  );
  t.match(refused({ providers: ['x'] }), { code: 'ERR_PEER_UNKNOWN', message: /"x"/ });
  t.end();
});
