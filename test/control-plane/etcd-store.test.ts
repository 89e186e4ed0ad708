import fs from 'node:fs';
import path from 'node:path';
import { tmpdir } from 'node:os';
import { Etcd3 } from 'etcd3';
import t, { type Test } from 'tap';
import { openMetaStore } from '../../control-plane/open-store.ts';
import { requiresEtcd, startEtcd, type EtcdTls } from '../helpers/etcd.ts';
import { judge, requires } from '../helpers/judges.ts';
import {
  metaStoreConformance,
  opened,
  putAgain,
  until,
  Watched,
} from './meta-store-conformance.ts';

const STORE_ERROR = { name: 'MemcloudError', code: 'ERR_CONTROL_STORE' };

/** A certificate authority with a certificate for the loopback. */
async function certificates(t: Test): Promise<EtcdTls> {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-tls-'));
  t.teardown(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  const file = (name: string): string => path.join(directory, name);
  fs.writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1\n');
  const make = ['req', '-newkey', 'ed25519', '-nodes', '-subj', '/CN=test'];
  const ca = ['-x509', '-keyout', file('ca.key'), '-out', file('ca.pem'), '-days', '2'];
  const request = ['-keyout', file('key.pem'), '-out', file('request.pem')];
  const sign = ['x509', '-req', '-in', file('request.pem'), '-CA', file('ca.pem'), '-days', '2'];
  const signed = [
    '-CAkey',
    file('ca.key'),
    '-extfile',
    file('extensions'),
    '-out',
    file('cert.pem'),
  ];
  for (const args of [
    [...make, ...ca],
    [...make, ...request],
    [...sign, ...signed, '-CAcreateserial'],
  ]) {
    const { code, stderr } = await judge('openssl', args);
    if (code !== 0) throw new Error(stderr);
  }
  return { ca: file('ca.pem'), cert: file('cert.pem'), key: file('key.pem') };
}

const requiresBoth = requires('etcd', 'openssl');

t.test('the suite of all stores, on a real etcd', requiresEtcd(), async (t) => {
  const { address } = await startEtcd(t);
  metaStoreConformance(t, { open: () => openMetaStore(address) });
});

t.test(
  'two ways into one etcd see each other; leases are of the store',
  requiresEtcd(),
  async (t) => {
    const { address } = await startEtcd(t);
    const [one, two] = [await opened(t, address), await opened(t, address)];
    t.equal(one.description, address);
    const watched = new Watched();
    two.watch('', (await two.list('')).revision, watched);
    const lease = await one.grant(60_000);
    const revision = await one.put('a', '1', lease);
    t.same(await two.get('a'), { key: 'a', value: '1', revision });
    t.equal(await two.keepalive(lease), true);
    await two.revoke(lease);
    t.equal(await one.get('a'), undefined);
    await until(() => watched.changes.length === 2);
  },
);

t.test(
  'an etcd that dies and comes back: calls fail in 5 s, then all goes on',
  requiresEtcd(),
  async (t) => {
    const { address, members } = await startEtcd(t);
    const store = await opened(t, address);
    const watched = new Watched();
    const first = await store.put('a', '1');
    store.watch('', first, watched);
    const lease = await store.grant(60_000);
    await members[0]!.kill();
    const startMs = performance.now();
    const calls = await Promise.allSettled([
      store.get('a'),
      store.list(''),
      store.put('a', '2'),
      store.transact([{ key: 'a', revision: first }], []),
      store.grant(5000),
      store.keepalive(lease),
      store.revoke({ id: '1', ttlMs: 1000 }),
    ]);
    const tookMs = performance.now() - startMs;
    for (const call of calls) {
      t.equal(call.status, 'rejected');
      if (call.status === 'rejected') t.match(call.reason, STORE_ERROR);
    }
    t.ok(tookMs < 6500, `${Math.round(tookMs)} ms`);
    await members[0]!.start();
    await putAgain(store, 'b', '1');
    t.equal(await store.keepalive(lease), true);
    await until(() => watched.changes.some(({ key }) => key === 'b'));
    t.equal(watched.lostCount, 0, 'the watch went on');
    const seen = watched.changes.map(({ revision }) => revision);
    t.same(
      seen,
      [...new Set(seen)].toSorted((left, right) => left - right),
      'each change once',
    );
  },
);

t.test('a full etcd refuses changes and answers reads', requiresEtcd(), async (t) => {
  const { address } = await startEtcd(t, { extra: ['--quota-backend-bytes=2000000'] });
  const store = await opened(t, address);
  await store.put('a', '1');
  const fill = async (): Promise<void> => {
    for (let index = 0; index < 200; index += 1) await store.put(`f${index}`, 'x'.repeat(60_000));
  };
  await t.rejects(fill(), { ...STORE_ERROR, message: /database space exceeded/ });
  t.equal((await store.get('a'))?.value, '1');
});

t.test('TLS both ways, and a user with a password from a file', requiresBoth, async (t) => {
  const tls = await certificates(t);
  const { members } = await startEtcd(t, { tls });
  const { host } = members[0]!;
  const files = `ca=${tls.ca}&cert=${tls.cert}&key=${tls.key}`;
  const store = await opened(t, `etcd://${host}?${files}`);
  t.equal(store.description, `etcd://${host}`);
  await store.put('/memcloud/v1/a', '1');
  const [plain, unknown, nobody] = [
    await opened(t, `etcd://${host}`),
    await opened(t, `etcd://${host}?tls=on`),
    await opened(t, `etcd://${host}?ca=${tls.ca}`),
  ];
  await Promise.all([
    t.rejects(plain.get('/memcloud/v1/a'), STORE_ERROR, 'plain text'),
    t.rejects(unknown.get('/memcloud/v1/a'), STORE_ERROR, 'an authority that is not known'),
    t.rejects(nobody.get('/memcloud/v1/a'), STORE_ERROR, 'no certificate of the client'),
  ]);

  const root = new Etcd3({
    hosts: `https://${host}`,
    credentials: {
      rootCertificate: fs.readFileSync(tls.ca),
      certChain: fs.readFileSync(tls.cert),
      privateKey: fs.readFileSync(tls.key),
    },
  });
  const secret = 'p%ss & wörd=1';
  await root.auth.userAdd({ name: 'root', password: 'root-password' });
  await root.auth.roleAdd({ name: 'root' });
  await root.auth.userGrantRole({ user: 'root', role: 'root' });
  await root.auth.userAdd({ name: 'control', password: secret });
  await root.auth.roleAdd({ name: 'control' });
  await root.auth.roleGrantPermission({
    name: 'control',
    perm: {
      permType: 'Readwrite',
      key: Buffer.from('/memcloud/'),
      range_end: Buffer.from('/memcloud0'),
    },
  });
  await root.auth.userGrantRole({ user: 'control', role: 'control' });
  await root.auth.authEnable();
  root.close();

  const passwordFile = path.join(path.dirname(tls.ca), 'password');
  fs.writeFileSync(passwordFile, `${secret}\n`, { mode: 0o600 });
  const address = `etcd://${host}?${files}&user=control&password-file=${passwordFile}`;
  const user = await opened(t, address);
  t.equal(user.description, `etcd://${host}`, 'no secrets in it');
  t.equal((await user.get('/memcloud/v1/a'))?.value, '1');
  const watched = new Watched();
  user.watch('/memcloud/', (await user.list('/memcloud/')).revision, watched);
  const lease = await user.grant(60_000);
  await user.put('/memcloud/v1/b', '1', lease);
  t.equal(await user.keepalive(lease), true);
  await until(() => watched.changes.length === 1);
  await t.rejects(user.put('/other', '1'), { ...STORE_ERROR, message: /permission denied/ });

  // Tokens are in the memory of the member: after this, none that was given is known any more.
  await members[0]!.kill();
  await members[0]!.start();
  t.equal(await user.keepalive(lease), true, 'logs in anew');
  await putAgain(user, '/memcloud/v1/c', '1');
  await until(
    () => watched.lostCount === 1 || watched.changes.some(({ key }) => key.endsWith('c')),
  );

  fs.writeFileSync(passwordFile, 'wrong');
  const wrong = await opened(t, address);
  const error: unknown = await wrong.get('/memcloud/v1/a').catch((reason: unknown) => reason);
  t.match(error, { ...STORE_ERROR, message: /authentication failed/ });
  t.notMatch(String((error as Error).message), /wrong/);
});
