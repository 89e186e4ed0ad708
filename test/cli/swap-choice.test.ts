/** Which way `swap on` goes: every combination that a machine and a person can make. */
import t from 'tap';
import { chooseSwapPath, type ChoiceOptions } from '../../cli/swap-choice.ts';
import type { DirectCheck } from '../../common/rpc-schema.ts';

const GIB = 2 ** 30;
const POSSIBLE: DirectCheck = { possible: true, problems: [], connection: 'tls' };
const IMPOSSIBLE: DirectCheck = {
  possible: false,
  problems: ['the kernel has no TLS', 'dmsetup not installed'],
  connection: 'tls',
};
const NAMED = { scope: 'nightly.service', memoryBytes: 2 * GIB };
const UNNAMED = { scope: undefined, memoryBytes: undefined };

type Settings = Parameters<typeof chooseSwapPath>[0];

async function choose(
  settings: Partial<Settings>,
  check: DirectCheck,
  options: Partial<ChoiceOptions> = {},
): Promise<unknown> {
  const all = { via: 'auto' as const, sizeBytes: 8 * GIB, ...UNNAMED, ...settings };
  try {
    return await chooseSwapPath(all, { force: false, mustReturn: false, ...options }, () =>
      Promise.resolve(check),
    );
  } catch (error) {
    return error;
  }
}

t.test('direct where possible, whatever else was said', async (t) => {
  for (const settings of [{}, NAMED, { via: 'direct' as const }]) {
    for (const force of [false, true]) {
      t.match(await choose(settings, POSSIBLE, { force }), { path: 'direct', connection: 'tls' });
    }
  }
  t.match(await choose({}, { ...POSSIBLE, connection: 'wireguard' }), { why: /WireGuard/ });
  t.match(await choose({}, { ...POSSIBLE, connection: 'plain' }), { why: /--insecure-plain/ });
});

t.test('else for the unit that is named, saying what direct lacks', async (t) => {
  t.match(await choose(NAMED, IMPOSSIBLE), {
    path: 'scoped',
    ...NAMED,
    why: /not possible here: the kernel has no TLS; dmsetup not installed$/,
  });
  t.match(await choose(NAMED, IMPOSSIBLE, { force: true }), { path: 'scoped' }, 'before --force');
});

t.test('else refused, with what to type', async (t) => {
  const refusal = await choose({}, IMPOSSIBLE);
  t.match(refusal, { code: 'ERR_SWAP_UNSAFE', message: /no TLS.*\n[^]*can freeze/ });
  t.match(refusal, { message: /\n  memcloud swap on 8G --scope UNIT --memory 4G\n/ });
  t.match(refusal, { message: /\n  memcloud run --memory 4G --swap 8G -- COMMAND\n/ });
  t.match(await choose({ sizeBytes: 1.5 * GIB }, IMPOSSIBLE), { message: /swap on 1\.5G --scope/ });
});

t.test('through memnode for all only with --force', async (t) => {
  t.match(await choose({}, IMPOSSIBLE, { force: true }), { path: 'pool', why: /no TLS/ });
  t.match(await choose({ via: 'pool' }, POSSIBLE, { force: true }), { path: 'pool' });
  t.match(await choose({ via: 'pool' }, POSSIBLE), { code: 'ERR_SWAP_UNSAFE' });
});

t.test('a way that was asked for is gone, or refused', async (t) => {
  t.match(await choose({ via: 'direct', ...NAMED }, IMPOSSIBLE, { force: true }), {
    code: 'ERR_UNSUPPORTED',
    message: /no TLS/,
  });
  t.match(await choose({ via: 'scoped', ...NAMED }, POSSIBLE), {
    path: 'scoped',
    why: 'asked for',
  });
  t.same(
    await choose({ via: 'loop', ...NAMED }, POSSIBLE),
    await choose({ via: 'scoped', ...NAMED }, POSSIBLE),
  );
  t.match(await choose({ via: 'loop', ...UNNAMED }, POSSIBLE), { code: 'ERR_USAGE' });
});

t.test('a unit without its RAM, or RAM without a unit, is told what is missing', async (t) => {
  for (const part of [
    UNNAMED,
    { ...NAMED, memoryBytes: undefined },
    { ...NAMED, scope: undefined },
  ]) {
    t.match(await choose({ via: 'scoped', ...part }, POSSIBLE), {
      code: 'ERR_USAGE',
      message: /expected --scope UNIT and --memory SIZE/,
    });
  }
  const noMemory = await choose({ scope: 'x.service' }, IMPOSSIBLE);
  t.match(noMemory, { code: 'ERR_USAGE', message: /--memory/ });
});

t.test('a service that must return is told to make the guard a service of its own', async (t) => {
  const refusal = await choose(NAMED, IMPOSSIBLE, { mustReturn: true });
  t.match(refusal, {
    code: 'ERR_USAGE',
    message: /no TLS.*ExecStart=memcloud swap on --via scoped/,
  });
  t.match(await choose(NAMED, POSSIBLE, { mustReturn: true }), { path: 'direct' });
});
