/** What methods refuse or fill in before the parts of a daemon see it; the rest is in lab.test.ts. */
import t from 'tap';
import type { RpcMethod, RpcParams } from '../../common/rpc-schema.ts';
import { rpcHandlers, type RpcContext } from '../../daemon/rpc-methods.ts';
import type { RpcHandlers } from '../../daemon/rpc-server.ts';

/** Handlers of which none looks at the call. */
type PlainHandlers = {
  readonly [M in RpcMethod]: (params: RpcParams<M>) => ReturnType<RpcHandlers[M]>;
};

const GIB = 2 ** 30;

/** Handlers over volumes that keep what they were asked for, with so many providers up. */
function handlers(
  upCount: number,
  quarantineReason?: string,
): { rpc: PlainHandlers; asked: unknown[] } {
  const asked: unknown[] = [];
  const keep = (request: unknown): unknown => {
    asked.push(request);
    return { ok: true };
  };
  const context = {
    peers: {
      list: () =>
        Array.from({ length: 3 }, (_, index) => ({
          ...{ up: index < upCount, accepting: true, hostId: `machine-${index}` },
          ...(quarantineReason === undefined ? {} : { quarantineReason }),
        })),
    },
    mounts: { has: (name: string) => name === 'of-a-mount' },
    volumes: {
      create: keep,
      serve: async (_: string, request: unknown) => {
        keep(request);
        return 'nbd://x';
      },
    },
  };
  return { rpc: rpcHandlers(context as unknown as RpcContext) as PlainHandlers, asked };
}

t.test('a volume is asked for with pages rounded up and copies for the pool', async (t) => {
  const cases: [number, Partial<RpcParams<'volume.create'>>, Record<string, unknown>][] = [
    [0, { sizeBytes: 1 }, { sizeBytes: 4096, copies: 1, ringSizeBytes: 67108864 }],
    [1, { sizeBytes: 4096 }, { sizeBytes: 4096, copies: 1 }],
    [2, { sizeBytes: 4097 }, { sizeBytes: 8192, copies: 2 }],
    [3, { sizeBytes: 0 }, { sizeBytes: 0, copies: 2, overcommit: false }],
    [3, { copies: 3, overcommit: true }, { copies: 3, overcommit: true }],
    [3, { providers: ['alpha'] }, { copies: 1, providers: ['alpha'] }],
    [3, { ringBytes: 4 * GIB }, { ringSizeBytes: 4294967296 }],
  ];
  for (const [upCount, params, expected] of cases) {
    const { rpc, asked } = handlers(upCount);
    await rpc['volume.create']({ name: 'v', sizeBytes: 4096, ...params });
    t.match(asked, [expected], JSON.stringify(params));
  }
  const { rpc } = handlers(1);
  t.throws(() => rpc['volume.create']({ name: 'v', sizeBytes: 1, ringBytes: 4 * GIB + 1 }), {
    code: 'ERR_USAGE',
    message: /expected a ring of at most 4 GiB/,
  });
});

t.test('a provider in quarantine is none to keep a second copy', async (t) => {
  const { rpc, asked } = handlers(3, 'a tag failed');
  await rpc['volume.create']({ name: 'v', sizeBytes: 4096 });
  t.match(asked, [{ copies: 1 }]);
});

t.test('a server is asked for at one address, with one kind of TLS', async (t) => {
  const { rpc, asked } = handlers(1);
  await rpc['nbd.serve']({ name: 'v', unixPath: '/s' });
  await rpc['nbd.serve']({ name: 'v', tcpAddress: 'h:1', readOnly: true });
  await rpc['nbd.serve']({ name: 'v', tcpAddress: 'h:1', tls: 'require', tlsKeys: '/k' });
  t.match(asked, [
    { address: { unixPath: '/s' }, readOnly: false, tls: undefined },
    { address: { tcpAddress: 'h:1' }, readOnly: true, tls: undefined },
    { tls: { policy: 'require', keys: '/k', verifyPeer: false } },
  ]);
  const wrong: Omit<RpcParams<'nbd.serve'>, 'name'>[] = [
    {},
    { unixPath: '/s', tcpAddress: 'h:1' },
    { unixPath: `/${'x'.repeat(107)}` },
    { unixPath: '' },
    { unixPath: '/s', tls: 'allow' },
    { unixPath: '/s', tls: 'allow', tlsKeys: '/k', tlsCertificates: '/c' },
  ];
  for (const params of wrong) {
    await t.rejects(
      async () => rpc['nbd.serve']({ name: 'v', ...params }),
      { code: 'ERR_USAGE' },
      JSON.stringify(params),
    );
  }
});

t.test('a volume may not have the name of a mount', async (t) => {
  const { rpc, asked } = handlers(1);
  t.throws(() => rpc['volume.create']({ name: 'of-a-mount', sizeBytes: 4096 }), {
    code: 'ERR_VOLUME_EXISTS',
  });
  t.strictSame(asked, []);
});
