/**
 * Sockets that somebody else put in the daemon's place. W15 of MemCloud in Rust: there the socket is in /tmp,
 * where any user may make it first, and every client gives its values to whoever did.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { MemcloudClient } from '../../sdk/client.ts';
import { labFolder, memcloud } from '../helpers/lab-node.ts';

const NOBODY = 65_534;
const skip = process.geteuid?.() === 0 ? false : 'must be root, to be another user';
const refused = { code: 'ERR_DAEMON_UNREACHABLE', message: /of user 65534, .*: not trusted/ };

/** A directory that everybody may write, as /tmp. */
function openFolder(t: Test): string {
  const folder = path.join(labFolder(t), 'open');
  fs.mkdirSync(folder);
  fs.chmodSync(folder, 0o1777);
  return folder;
}

/** Listens on a path; says whether anybody came. */
async function squat(t: Test, socketPath: string): Promise<{ visits: number }> {
  const seen = { visits: 0 };
  const server = net.createServer((socket) => {
    seen.visits += 1;
    socket.destroy();
  });
  server.listen(socketPath);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return seen;
}

t.test(
  'a socket that another user put where everybody may is not spoken to',
  { skip },
  async (t) => {
    const socketPath = path.join(openFolder(t), 'memcloud.sock');
    const seen = await squat(t, socketPath);
    fs.chownSync(socketPath, NOBODY, NOBODY);
    await t.rejects(MemcloudClient.connect(socketPath), refused);
    const { code, stderr } = await memcloud(socketPath, 'set', 'key', 'secret');
    t.not(code, 0);
    t.match(stderr, /not trusted/);
    t.equal(seen.visits, 0, 'not a byte went there');
  },
);

t.test(
  'nor one behind a link, or in a directory, that another user put there',
  { skip },
  async (t) => {
    const folder = openFolder(t);
    const theirs = path.join(folder, 'memcloud');
    fs.mkdirSync(path.join(theirs, 'deep'), { recursive: true });
    const seen = await squat(t, path.join(theirs, 'deep/memcloud.sock'));
    fs.chownSync(theirs, NOBODY, NOBODY);
    await t.rejects(MemcloudClient.connect(path.join(theirs, 'deep/memcloud.sock')), refused);
    // A link may lead to a socket of root when it is looked at, and elsewhere when it is followed.
    const link = path.join(folder, 'link.sock');
    const own = path.join(path.dirname(folder), 'own.sock');
    const ownSeen = await squat(t, own);
    fs.symlinkSync(own, link);
    fs.lchownSync(link, NOBODY, NOBODY);
    await t.rejects(MemcloudClient.connect(link), refused);
    t.same([seen.visits, ownSeen.visits], [0, 0]);
  },
);

t.test('Python refuses the same', { skip }, async (t) => {
  if (!fs.existsSync('/usr/bin/python3')) return void t.comment('no python3 here');
  const socketPath = path.join(openFolder(t), 'memcloud.sock');
  const seen = await squat(t, socketPath);
  fs.chownSync(socketPath, NOBODY, NOBODY);
  const said = execFileSync(
    '/usr/bin/python3',
    [
      '-Bc',
      'import sys, memcloud\ntry: memcloud.MemCloud(sys.argv[1])\nexcept memcloud.MemCloudError as e: print(e.code, e)',
      socketPath,
    ],
    { cwd: path.resolve('sdk/python'), encoding: 'utf8' },
  );
  t.match(said, /^ERR_DAEMON_UNREACHABLE .*of user 65534, .*: not trusted/);
  t.equal(seen.visits, 0);
});

t.test(
  'where only its owner may write, and of a socket of our own, nothing is asked',
  { skip },
  async (t) => {
    const mine = path.join(openFolder(t), 'memcloud.sock');
    const seen = await squat(t, mine);
    (await MemcloudClient.connect(mine)).close();
    // A daemon with a user of its own, in the directory that the service manager gave it.
    const served = path.join(labFolder(t), 'run');
    fs.mkdirSync(served, { mode: 0o755 });
    const theirs = path.join(served, 'memcloud.sock');
    const theirSeen = await squat(t, theirs);
    for (const place of [served, theirs]) fs.chownSync(place, NOBODY, NOBODY);
    (await MemcloudClient.connect(theirs)).close();
    await new Promise((resolve) => setTimeout(resolve, 50));
    t.same([seen.visits, theirSeen.visits], [1, 1]);
  },
);
