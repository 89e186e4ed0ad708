import fs from 'node:fs';
import path from 'node:path';
import { tmpdir } from 'node:os';
import t from 'tap';
import { openMetaStore } from '../../control-plane/open-store.ts';

const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-open-'));
t.teardown(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});
const file = (name: string, text: string): string => {
  fs.writeFileSync(path.join(directory, name), text);
  return path.join(directory, name);
};

t.test('embedded:DIR opens a store there', async (t) => {
  const store = await openMetaStore(`embedded:${directory}/a/b`);
  t.equal(store.description, `embedded:${directory}/a/b`);
  await store.put('a', '1');
  await store.close();
  t.ok(fs.existsSync(`${directory}/a/b/data.mdb`));
});

t.test('etcd:// takes hosts, and what is secret is not in its description', async (t) => {
  const password = file('password', 'hunter2\n');
  const good: [string, string][] = [
    ['etcd://127.0.0.1', 'etcd://127.0.0.1:2379'],
    ['etcd://a:1,b.example:65535,[::1]:2379/', 'etcd://a:1,b.example:65535,[::1]:2379'],
    [`etcd://a:1?user=u&password-file=${password}`, 'etcd://a:1'],
    ['etcd://a:1?tls=on', 'etcd://a:1'],
    ['etcd://a:1?', 'etcd://a:1'],
  ];
  for (const [address, description] of good) {
    const store = await openMetaStore(address);
    t.equal(store.description, description);
    await store.close();
  }
});

t.test('what is neither is refused, and says what was expected', async (t) => {
  const empty = file('empty', '');
  const some = file('some', 'some');
  const bad: [string, RegExp][] = [
    ['', /embedded:DIR or etcd:/],
    ['/var/lib/store', /embedded:DIR or etcd:/],
    ['http://user:hunter2@a:2379', /embedded:DIR or etcd:/],
    ['etcd:a:2379', /embedded:DIR or etcd:/],
    ['embedded:', /needs a directory/],
    ['etcd://', /expected HOST:PORT/],
    ['etcd://a:0', /expected HOST:PORT, got "a:0"/],
    ['etcd://a:65536', /expected HOST:PORT/],
    ['etcd://a:1,', /expected HOST:PORT/],
    ['etcd://a b:1', /expected HOST:PORT/],
    ['etcd://a:1/path', /expected HOST:PORT/],
    [`etcd://${'a:1,'.repeat(16)}a:1`, /at most 16 hosts, got 17/],
    ['etcd://u:hunter2@a:1', /no user before "@"/],
    ['etcd://a:1?password=hunter2', /only read from a file/],
    ['etcd://a:1?usr=u', /"usr" is none of them/],
    ['etcd://a:1?user=u&user=v', /user once at most/],
    ['etcd://a:1?user=', /user in a store address needs a value/],
    ['etcd://a:1?user=u', /both user=NAME and password-file=FILE/],
    [`etcd://a:1?password-file=${some}`, /both user=NAME and password-file=FILE/],
    ['etcd://a:1?tls=off', /expected "on", got "off"/],
    [`etcd://a:1?cert=${some}`, /both cert=FILE and key=FILE/],
    [`etcd://a:1?key=${some}`, /both cert=FILE and key=FILE/],
    ['etcd://a:1?ca=/no/such/file', /cannot read \/no\/such\/file: ENOENT/],
    [`etcd://a:1?ca=${directory}`, /cannot read .*: EISDIR/],
    [`etcd://a:1?ca=${empty}`, /expected 1 to 1048576 bytes .* got 0/],
    [`etcd://a:1?ca=${some}`, /ca in a store address: .*PEM/],
    [`etcd://a:1?user=u&password-file=${empty}`, /got 0/],
    ['etcd://a:1?tls=on?ca=x', /one "\?" at most/],
  ];
  for (const [address, message] of bad) {
    const error: unknown = await openMetaStore(address).catch((reason: unknown) => reason);
    t.match(error, { code: 'ERR_USAGE', message }, address);
    t.notMatch((error as Error).message, /hunter2/, 'no password in it');
  }
});
