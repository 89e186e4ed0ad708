/** Quotas, metering and the audit log: one client over its quota, a thousand requests at once. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import t from 'tap';
import { AUDIT_PREFIX } from '../../control-plane/audit.ts';
import { openMetaStore } from '../../control-plane/open-store.ts';
import { eventually, memcloud, memcloudJson } from '../helpers/lab-node.ts';
import { MIB, ManagedLab, ask, auditOf, leasesOf, providerRow } from '../helpers/managed-lab.ts';
import { WireClient } from '../helpers/wire-client.ts';

const REQUEST_COUNT = 1000;
const SIZE_BYTES = MIB;
/** So many of the requests fit. */
const QUOTA_COUNT = 100;

t.test(
  'a thousand requests at once, a tenth of them within the quota',
  { timeout: 150_000 },
  async (t) => {
    const lab = await ManagedLab.start(t, { clients: [], offer: '512M' });
    const { control } = lab;
    const hungry = new WireClient(t, 'hungry');
    const modest = new WireClient(t, 'modest');
    for (const client of [hungry, modest]) {
      await ask(control, 'admin.member-put', {
        ...{ key: client.nodeId, name: client === hungry ? 'hungry' : 'modest', roles: ['client'] },
        quotaBytes: QUOTA_COUNT * SIZE_BYTES,
      });
      await client.reach(control);
    }
    const requestOf = (client: WireClient): Promise<string[]> =>
      client
        .ask(control, 'lease.request', {
          requestId: randomBytes(16).toString('hex'),
          ...{ sizeBytes: SIZE_BYTES, ttlMs: 120_000, count: 1, purpose: 'test' },
        })
        .then(({ leases }) => leases.map(({ leaseId }) => leaseId));
    const startMs = performance.now();
    const latencies: number[] = [];
    const hungryJobs = Array.from({ length: REQUEST_COUNT }, () => requestOf(hungry));
    // Meanwhile another client is served.
    const modestJobs = Array.from({ length: 20 }, async () => {
      const since = performance.now();
      const ids = await requestOf(modest);
      latencies.push(performance.now() - since);
      return ids;
    });
    const ended = await Promise.allSettled(hungryJobs);
    const granted = ended.flatMap((each) => (each.status === 'fulfilled' ? each.value : []));
    const refused = ended.flatMap((each) =>
      each.status === 'rejected' ? [each.reason as Error] : [],
    );
    t.comment(`${REQUEST_COUNT} answered in ${Math.round(performance.now() - startMs)} ms`);
    t.equal(granted.length, QUOTA_COUNT, 'exactly what the quota allows');
    t.equal(new Set(granted).size, QUOTA_COUNT, 'each another lease');
    const codes = refused.map((error) => (error as { code?: string }).code);
    t.same([...new Set(codes)], ['ERR_CONTROL_QUOTA'], 'all others are told that it is the quota');
    t.match(refused[0]?.message, /100(\.0)? MiB|104857600|104,857,600/, 'with the numbers');
    t.equal(
      (await Promise.all(modestJobs)).flat().length,
      20,
      'the other client got all of its own',
    );
    t.comment(`the other client waited ${Math.round(Math.max(...latencies))} ms at most`);

    const rows = await leasesOf(control);
    const own = rows.filter(({ client }) => client === hungry.nodeId);
    t.same(
      own.map(({ leaseId }) => leaseId).sort(),
      [...granted].sort(),
      'the same leases are kept',
    );
    const reserved = await Promise.all(
      ['alpha', 'beta'].map(async (name) => (await providerRow(control, name))?.reservedBytes ?? 0),
    );
    t.equal(
      reserved.reduce((sum, bytes) => sum + bytes, 0),
      (QUOTA_COUNT + 20) * SIZE_BYTES,
      'providers are charged exactly',
    );
    t.ok(
      Math.min(...reserved) > 0.3 * Math.max(...reserved),
      `both of them: ${reserved.join(', ')}`,
    );
    const usage = (await ask(control, 'admin.usage', {})).rows.find(
      ({ name }) => name === 'hungry',
    );
    t.match(usage, {
      ...{ usedBytes: QUOTA_COUNT * SIZE_BYTES, usedLeases: QUOTA_COUNT },
      ...{ leasesGranted: QUOTA_COUNT, leasesDenied: REQUEST_COUNT - QUOTA_COUNT },
      peakBytes: QUOTA_COUNT * SIZE_BYTES,
    });
    const audit = await auditOf(control);
    const count = (event: string): number =>
      audit.filter((row) => row.event === event && row.detail['client'] === hungry.nodeId).length;
    t.equal(count('lease.granted'), QUOTA_COUNT, 'each grant is in the audit log');
    t.ok(count('lease.denied') > 0, 'denials as well');

    await t.test('what is given back can be had again, once', async (t) => {
      const back = granted.slice(0, 10);
      t.same(await hungry.ask(control, 'lease.release', { leaseIds: back }), { unknown: [] });
      await eventually('it is free again', async () => {
        const [row] = (await ask(control, 'admin.usage', {})).rows.filter(
          ({ name }) => name === 'hungry',
        );
        return row?.usedLeases === QUOTA_COUNT - 10;
      });
      const again = await Promise.allSettled(Array.from({ length: 30 }, () => requestOf(hungry)));
      t.equal(again.filter(({ status }) => status === 'fulfilled').length, 10);
    });

    await t.test('the report, as CSV and as JSON', async (t) => {
      const json = await memcloudJson<{ name: string }[]>(
        t,
        control.socketPath,
        ...['control-plane', 'usage'],
      );
      t.same(json.map(({ name }) => name).sort(), ['hungry', 'modest']);
      const { code, stdout } = await memcloud(
        control.socketPath,
        'control-plane',
        'usage',
        '--csv',
      );
      t.equal(code, 0);
      const [head = '', ...lines] = stdout.trim().split('\n');
      t.match(head, /byteSeconds|byte_seconds/, head);
      t.equal(lines.length, 2);
    });

    await t.test('the audit log is a chain: a changed line breaks it', async (t) => {
      const verify = (socketPath: string) =>
        memcloud(socketPath, 'control-plane', 'audit', '--verify');
      t.match(await verify(control.socketPath), { code: 0, stdout: /whole and in order/ });
      await control.end('SIGTERM');
      const store = await openMetaStore(`embedded:${path.join(lab.folder, 'control/store')}`);
      const { entries } = await store.list(AUDIT_PREFIX);
      const granted = entries.find(({ value }) => value.includes('lease.granted'));
      const line = granted?.value.replace('"sizeBytes":1048576', '"sizeBytes":1048577') ?? '';
      t.not(line, granted?.value);
      await store.put(granted?.key ?? '', line);
      await store.close();
      const again = await lab.addControl(t, { name: 'control' });
      await again.waitForLeader();
      t.match(await verify(again.socketPath), { code: 8, stderr: /audit log was altered: line / });
    });
  },
);
