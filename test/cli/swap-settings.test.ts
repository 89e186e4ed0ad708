/** `swap on`: its words over the daemon's `[swap]`, and over the defaults. */
import os from 'node:os';
import t from 'tap';
import { OPTION_KEYS } from '../../common/config/options.ts';
import { resolveConfig } from '../../common/config/resolve.ts';
import type { RpcMethod } from '../../common/rpc-schema.ts';
import { requireSaidAloud, swapSettings, type SwapWords } from '../../cli/swap-settings.ts';
import type { MemcloudClient } from '../../sdk/client.ts';

const MIB = 2 ** 20;
const SILENT: SwapWords = {
  size: undefined,
  via: undefined,
  copies: undefined,
  provider: [],
  priority: undefined,
};

/** A daemon with this environment. */
function daemon(env: NodeJS.ProcessEnv): Pick<MemcloudClient, 'call'> {
  const { values } = resolveConfig({ env: { MEMCLOUD_CONFIG: '/dev/null', ...env } });
  const settings = OPTION_KEYS.map((key) => ({ key, value: values[key] ?? null }));
  const call = async (method: RpcMethod): Promise<unknown> => {
    t.equal(method, 'config.get');
    return { settings };
  };
  return { call } as Pick<MemcloudClient, 'call'>;
}

const CONFIGURED = daemon({
  MEMCLOUD_SWAP_SIZE: '64M',
  MEMCLOUD_SWAP_COPIES: '3',
  MEMCLOUD_SWAP_PRIORITY: '0',
  MEMCLOUD_SWAP_PATH: 'pool',
  MEMCLOUD_SWAP_DISCARD: 'no',
  MEMCLOUD_SWAP_SCOPE: 'nightly.service',
  MEMCLOUD_SWAP_MEMORY: '32M',
});

t.test('what the words leave open the configuration says', async (t) => {
  t.same(await swapSettings(CONFIGURED, SILENT), {
    sizeBytes: 64 * MIB,
    via: 'pool',
    copies: 3,
    providers: [],
    priority: 0,
    discard: false,
    scope: 'nightly.service',
    memoryBytes: 32 * MIB,
  });
});

t.test('words win', async (t) => {
  const words = {
    size: '50%',
    via: 'direct',
    copies: 1,
    priority: 7,
    scope: '/a/b',
    memory: '1G',
  } as const;
  t.same(await swapSettings(CONFIGURED, { ...words, provider: ['a'] }), {
    sizeBytes: Math.floor(os.totalmem() / 2),
    via: 'direct',
    copies: 1,
    providers: ['a'],
    priority: 7,
    discard: false,
    scope: '/a/b',
    memoryBytes: 1024 * MIB,
  });
});

t.test('without either there are defaults, but no size', async (t) => {
  t.same(await swapSettings(daemon({}), { ...SILENT, size: '1G' }), {
    sizeBytes: 1024 * MIB,
    via: 'auto',
    copies: undefined,
    providers: [],
    priority: undefined,
    discard: true,
    scope: undefined,
    memoryBytes: undefined,
  });
  await t.rejects(swapSettings(daemon({}), SILENT), {
    code: 'ERR_USAGE',
    message: /\[swap\] size/,
  });
  await t.rejects(swapSettings(CONFIGURED, { ...SILENT, size: '1X' }), { code: 'ERR_USAGE_SIZE' });
  await t.rejects(swapSettings(CONFIGURED, { ...SILENT, memory: '1X' }), {
    code: 'ERR_USAGE_SIZE',
  });
});

t.test('one copy is for who says so', (t) => {
  const cases: [number | undefined, number, boolean][] = [
    [undefined, 1, false],
    [undefined, 2, true],
    [1, 1, true],
    [2, 2, true],
    [2, 1, false],
  ];
  for (const [asked, made, accepted] of cases) {
    const require = (): void => requireSaidAloud(asked, made);
    if (accepted) t.doesNotThrow(require, `${asked} asked, ${made} made`);
    else t.throws(require, { code: 'ERR_VOLUME_CAPACITY', message: /--copies 1$/ });
  }
  t.end();
});
