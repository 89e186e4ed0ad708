/** What admins see and do, with a real control node and real providers. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import readline from 'node:readline';
import t, { type Test } from 'tap';
import type {
  ControlAuditLine,
  ControlMember,
  ControlProvider,
  ControlStatus,
} from '../../../common/rpc-control.ts';
import { LabControl } from '../../helpers/lab-control.ts';
import { CLEAN_ENV, LabNode, eventually, labFolder, memcloud } from '../../helpers/lab-node.ts';

const MEMCLOUD = path.join(import.meta.dirname, '../../../cli/main.js');
const MIB = 2 ** 20;

interface Lab {
  control: LabControl;
  provider: LabNode;
}

async function lab(t: Test): Promise<Lab> {
  const folder = labFolder(t);
  const control = await LabControl.start(t, { name: 'control', folder });
  await control.waitForLeader();
  const provider = await LabNode.start(t, {
    ...{ name: 'alpha', folder, offer: '64M', zone: 'rack-1', autoTrust: false },
    flags: control.memberFlags,
  });
  await control.addMember(provider.nodeId, ['provider', 'admin'], { name: 'alpha' });
  await control.waitForProvider(provider);
  return { control, provider };
}

/** A command that goes on. */
interface Following {
  /** What it has printed so far, a JSON value a line. */
  readonly lines: readonly { readonly event: string }[];
  /** Ends it as Ctrl-C does. @returns its exit code */
  end(): Promise<number | null>;
}

function following(t: Test, socketPath: string, words: readonly string[]): Following {
  const args = [MEMCLOUD, '--socket', socketPath, '--json', 'control-plane', ...words];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: CLEAN_ENV,
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: { event: string }[] = [];
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(JSON.parse(line) as { event: string });
  });
  const end = async (): Promise<number | null> => {
    const ended = once(child, 'exit');
    child.kill('SIGINT');
    const [code] = (await ended) as [number | null];
    return code;
  };
  return { lines, end };
}

t.test('the tables: control node, providers, members; drain and undrain', async (t) => {
  const { control, provider } = await lab(t);
  const status = await control.cliJson<ControlStatus>(t, 'status');
  t.match(status, {
    controlNodes: [{ nodeId: control.nodeId, name: 'control', leads: true }],
    providers: { up: 1, known: 1 },
    ...{ members: 1, leaseCount: 0, reservedBytes: 0, offeredBytes: 64 * MIB },
  });
  t.match((await control.cli('status')).stdout, /leads, term \d+ +[a-z]+-[a-z]+-/);
  const { socketPath } = control;
  for (const words of [['status'], ['--json', 'status']]) {
    const wrongPage = await memcloud(socketPath, ...words);
    t.match(wrongPage, { code: 1, stdout: '' }, 'not the page of a memnode');
    t.match(wrongPage.stderr, `memcloud control-plane status --socket ${socketPath}`);
  }
  const rows = await control.cliJson<ControlProvider[]>(t, 'providers');
  t.match(rows, [{ nodeId: provider.nodeId, name: 'alpha', zone: 'rack-1', state: 'up' }]);
  t.equal((await control.cli('drain', 'alpha')).code, 0);
  await control.waitForProvider(provider, 'draining');
  t.equal((await control.cli('undrain', provider.nodeId)).code, 0);
  await control.waitForProvider(provider, 'up');
  t.equal((await control.cli('drain', 'nobody')).code, 6);
  const words = ['member', 'set', 'alpha', '--quota', '32M', '--leases', '7'];
  const changed = await control.cliJson<ControlMember>(t, ...words);
  t.match(changed, { quotaBytes: 32 * MIB, quotaLeases: 7, roles: ['provider', 'admin'] });
  const members = await control.cliJson<ControlMember[]>(t, 'members');
  t.match(members, [{ name: 'alpha', quotaBytes: 32 * MIB, connected: true }]);
  t.same(await control.cliJson(t, 'leases'), []);
  const nobody = await control.cli('revoke', '00'.repeat(16));
  t.match(nobody, { code: 6, stderr: /no such lease/ });
  t.match(await control.cli('revoke'), { code: 2, stderr: /expected leases, or one of/ });
  t.match(await control.cli('revoke', 'x'), { code: 2, stderr: /32 hex digits/ });
  const sheet = await control.cli('usage', '--csv');
  t.match(sheet.stdout, /^client,name,used_bytes,[a-z_,]+\r\n/);
});

t.test('what happens is told as it happens, and stays in a log that can be checked', async (t) => {
  const { control, provider } = await lab(t);
  const events = following(t, control.socketPath, ['watch']);
  const log = following(t, control.socketPath, ['audit', '-f']);
  const has = ({ lines }: Following, wanted: string): boolean =>
    lines.some(({ event }) => event === wanted);
  await eventually('the log comes', () => has(log, 'member.put'));
  // Until the watch has begun an event may pass before it looks.
  await eventually('an event comes', async () => {
    await control.call('admin.drain', { provider: provider.nodeId, draining: true });
    await control.call('admin.drain', { provider: provider.nodeId, draining: false });
    return has(events, 'provider.changed');
  });
  await eventually('and lines of it', () => has(log, 'provider.drain'));
  t.equal((await provider.end('SIGKILL')).signal, 'SIGKILL');
  await control.waitForProvider(provider, 'down', 5_000);
  await eventually('the end of a provider is told', () => has(events, 'provider.down'));
  t.same([await events.end(), await log.end()], [130, 130], 'they end when they are asked to');
  const lines = await control.cliJson<ControlAuditLine[]>(t, 'audit');
  t.same(
    lines.map(({ sequence }) => sequence),
    lines.map((_line, index) => index + 1),
  );
  const last = lines.at(-1);
  const verified = await control.cliJson(t, 'audit', '--verify');
  const receipts = { valid: 0, unknownKey: 0, refused: 0 };
  t.match(verified, { first: 1, lines: Number, receipts });
  const rest = await control.cliJson<ControlAuditLine[]>(t, 'audit', '--after', '2');
  t.equal(rest[0]?.sequence, 3);
  t.ok(last !== undefined && rest.some(({ hash }) => hash === last.hash));
  const text = await control.cli('audit', '--after', '1');
  t.match(text.stdout, /^2 {2}\d{4}-\d\d-\d\dT/);
});

t.test('an admin asks by the memnode of another machine; others are refused', async (t) => {
  const { control, provider } = await lab(t);
  const at = provider.socketPath;
  const status = await memcloud(at, '--json', 'control-plane', 'status');
  t.match(JSON.parse(status.stdout), { members: 1 });
  const folder = labFolder(t);
  const client = await LabNode.start(t, {
    ...{ name: 'worker', folder, autoTrust: false },
    flags: control.memberFlags,
  });
  const words = ['control-plane', 'member', 'add', client.nodeId, '--role', 'client'];
  t.equal((await memcloud(at, ...words, '--quota', '16M')).code, 0);
  await control.waitForMember(client);
  const refused = await memcloud(client.socketPath, 'control-plane', 'members');
  t.match(refused, { code: 4, stderr: /for the role admin/ });
  t.equal((await memcloud(at, 'control-plane', 'member', 'rm', 'worker')).code, 0);
});
