/**
 * Random operations on the file system and on its naive twin: the same answers, the same tree, and nothing
 * left when all is removed. `SEED=n` repeats a run.
 */
import t from 'tap';
import type { Random } from '../helpers/fuzz.ts';
import { fuzz } from '../helpers/fuzz.ts';
import { FileSystemRig, ROOT } from '../helpers/file-system-rig.ts';
import { isDirectory, NaiveFileSystem, type NaiveNode } from '../helpers/naive-file-system.ts';

const NAMES = ['a', 'b', 'c', 'd', `long-${'n'.repeat(60)}`, '\xff\xfe'];
const STEPS = 1500;

/** A pair that must stay alike. */
interface Pair {
  readonly nodeid: number;
  readonly twin: NaiveNode;
  /** Lookups that the test holds. */
  lookups: number;
  handles: number[];
}

class Model {
  readonly rig = new FileSystemRig();
  readonly naive = new NaiveFileSystem();
  readonly pairs = new Map<NaiveNode, Pair>();
  readonly #random: Random;
  #what = '';

  constructor(random: Random) {
    this.#random = random;
    this.pairs.set(this.naive.root, { nodeid: 1, twin: this.naive.root, lookups: 0, handles: [] });
  }

  step(): void {
    const random = this.#random;
    const act = random.pick([
      ...['make', 'make', 'make', 'directory', 'link', 'unlink', 'unlink', 'rmdir', 'rename'],
      ...['rename', 'write', 'write', 'read', 'truncate', 'open', 'release', 'forget', 'chmod'],
      ...['setxattr', 'removexattr', 'readdir', 'symlink', 'lookup'],
    ]);
    this.rig.clock.seconds += 1;
    const pair = random.pick([...this.pairs.values()]);
    const other = random.pick([...this.pairs.values()]);
    const directories = [...this.pairs.values()].filter((each) => isDirectory(each.twin));
    const [from, to] = [random.pick(directories), random.pick(directories)];
    const [name, newName] = [random.pick(NAMES), random.pick(NAMES)];
    this.#what = `${act} ${from.nodeid} ${JSON.stringify(name)} ${to.nodeid} ${JSON.stringify(newName)} ${pair.nodeid}`;
    const { fs } = this.rig;
    switch (act) {
      case 'make':
        return this.#make(from, name, random.pick([0o100644, 0o104755, 0o010600, 0o020600]));
      case 'directory':
        return this.#make(from, name, 0o040000 | random.pick([0o755, 0o2775, 0o1777]));
      case 'symlink':
        return this.#make(from, name, 0o120777);
      case 'link': {
        const end = fs.link(other.nodeid, to.nodeid, newName);
        const expected = this.naive.link(other.twin, to.twin, newName);
        if (end > 0) other.lookups += 1;
        return this.#same(Math.min(end, 0), expected);
      }
      case 'unlink':
        return this.#same(fs.unlink(from.nodeid, name), this.naive.unlink(from.twin, name));
      case 'rmdir':
        return this.#same(
          fs.removeDirectory(from.nodeid, name),
          this.naive.removeDirectory(from.twin, name),
        );
      case 'rename': {
        const flags = random.pick([0, 0, 0, 1, 2, 3, 4]);
        const end = fs.rename(from.nodeid, name, to.nodeid, newName, flags);
        this.#same(end, this.naive.rename(from.twin, name, to.twin, newName, flags));
        return this.#adopt(from, name);
      }
      case 'lookup': {
        const twin = from.twin.entries.get(name);
        const end = fs.lookup(from.nodeid, name);
        const found = twin === undefined ? undefined : this.pairs.get(twin);
        if (found !== undefined && end > 0) found.lookups += 1;
        return this.#same(end, found?.nodeid ?? -2);
      }
      case 'forget':
        return this.#forget(pair);
      case 'readdir':
        return this.#same(
          from.twin.links === 0 ? '' : this.rig.names(from.nodeid, 1 + random.below(5)).join(),
          [...from.twin.entries.keys()].join(),
        );
      default:
        return this.#file(act, pair);
    }
  }

  #file(act: string, pair: Pair): void {
    const { nodeid, twin } = pair;
    const random = this.#random;
    if ((twin.mode & 0o170000) !== 0o100000 && act !== 'chmod' && !act.endsWith('xattr')) return;
    switch (act) {
      case 'write': {
        const offset = random.below(20_000);
        const bytes = random.bytes(1 + random.below(9000));
        const kills = random.below(2) === 0;
        if (kills) twin.mode &= (twin.mode & 0o10) === 0 ? ~0o4000 : ~0o6000;
        const end = this.rig.write(nodeid, offset, bytes.toString('latin1'), kills);
        return this.#same(end, this.naive.write(twin, offset, bytes));
      }
      case 'read': {
        const [offset, length] = [random.below(25_000), random.below(25_000)];
        const expected = twin.bytes.subarray(offset, offset + length).toString('latin1');
        return this.#same(this.rig.read(nodeid, offset, length) === expected, true);
      }
      case 'truncate': {
        const size = random.below(25_000);
        this.naive.truncate(twin, size);
        return this.#same(this.rig.change(nodeid, { valid: 8, size }), 0);
      }
      case 'open':
        if (pair.handles.length < 5) pair.handles.push(this.rig.fs.open(nodeid, 2));
        return this.#same(
          pair.handles.every((fh) => fh > 0),
          true,
        );
      case 'release':
        this.rig.fs.release(pair.handles.pop() ?? 0);
        return this.#drop(pair);
      case 'chmod': {
        const mode = random.below(0o10000);
        twin.mode = (twin.mode & 0o170000) | mode;
        return this.#same(this.rig.change(nodeid, { valid: 1, mode }), 0);
      }
      default:
        return this.#attribute(act, pair);
    }
  }

  #attribute(act: string, pair: Pair): void {
    const name = `trusted.${this.#random.pick(NAMES)}`;
    if (act === 'removexattr') {
      const expected = pair.twin.attributes.delete(name) ? 0 : -61;
      return this.#same(this.rig.fs.removeAttribute(ROOT, pair.nodeid, name), expected);
    }
    const value = this.#random.bytes(this.#random.below(200)).toString('latin1');
    pair.twin.attributes.set(name, value);
    return this.#same(this.rig.fs.setAttribute(ROOT, pair.nodeid, name, value, 0, false), 0);
  }

  #make(from: Pair, name: string, mode: number): void {
    const caller = { uid: this.#random.below(3), gid: this.#random.below(3), pid: 1 };
    const { fs } = this.rig;
    const { nodeid } = from;
    const target = mode === 0o120777 ? 'somewhere/else' : '';
    const twin = this.naive.make(from.twin, name, mode, caller.uid, caller.gid, target);
    let end: number;
    if (target !== '') end = fs.symlink(caller, nodeid, name, target);
    else if ((mode & 0o170000) === 0o040000) {
      end = fs.makeDirectory(caller, nodeid, name, mode & 0o7777, 0);
    } else end = fs.makeNode(caller, nodeid, name, mode, 0, 0);
    if (typeof twin === 'number') return this.#same(end, twin);
    this.pairs.set(twin, { nodeid: end, twin, lookups: 1, handles: [] });
    return this.#same(end > 1, true);
  }

  /** A whiteout came into being by itself. */
  #adopt(from: Pair, name: string): void {
    const twin = from.twin.entries.get(name);
    if (twin === undefined || this.pairs.has(twin)) return;
    const nodeid = this.rig.fs.lookup(from.nodeid, name);
    this.#same(nodeid > 1, true);
    this.pairs.set(twin, { nodeid, twin, lookups: 1, handles: [] });
  }

  /** Forgets all lookups; of what has no name either, the pair ends. */
  #forget(pair: Pair): void {
    if (pair.twin === this.naive.root || pair.twin.links > 0) return;
    this.rig.fs.forget(pair.nodeid, pair.lookups);
    pair.lookups = 0;
    this.#drop(pair);
  }

  #drop(pair: Pair): void {
    if (pair.twin.links > 0 || pair.lookups > 0 || pair.handles.length > 0) return;
    this.pairs.delete(pair.twin);
    this.#same(this.rig.fs.generation(pair.nodeid), 0);
  }

  #same(got: unknown, expected: unknown): void {
    if (got !== expected) throw new Error(`${this.#what}: ${String(got)}, not ${String(expected)}`);
  }

  /** Compares everything. */
  check(): void {
    this.#what = 'check';
    for (const { nodeid, twin } of this.pairs.values()) {
      const stat = this.rig.stat(nodeid);
      this.#what = `attributes of ${nodeid}`;
      this.#same(stat.mode, twin.mode);
      this.#same(stat.linkCount, twin.links);
      this.#same(stat.uid, twin.uid);
      this.#same(stat.gid, twin.gid);
      this.#same(
        this.rig.fs.listAttributes(nodeid),
        [...twin.attributes.keys()].sort().reduce((all, name) => `${all}${name}\0`, ''),
      );
      for (const [name, value] of twin.attributes) {
        this.#same(this.rig.fs.getAttribute(nodeid, name), value);
      }
      if (isDirectory(twin)) {
        this.#same(stat.size, 40 + 20 * twin.entries.size);
        if (twin.links > 0)
          this.#same(this.rig.names(nodeid).join(), [...twin.entries.keys()].join());
      } else if (twin.target !== '') this.#same(this.rig.fs.readLink(nodeid), twin.target);
      else if ((twin.mode & 0o170000) === 0o100000) {
        this.#same(stat.size, twin.bytes.length);
        this.#same(this.rig.read(nodeid, 0, 40_000), twin.bytes.toString('latin1'));
      }
    }
    this.#same(this.rig.fs.inodeCount, this.pairs.size);
  }

  /** Removes everything: not a page and not an inode may be left. */
  clear(): void {
    const empty = (directory: Pair): void => {
      for (const [name, twin] of [...directory.twin.entries]) {
        const pair = this.pairs.get(twin)!;
        if (isDirectory(twin)) {
          empty(pair);
          this.#same(this.rig.fs.removeDirectory(directory.nodeid, name), 0);
          this.naive.removeDirectory(directory.twin, name);
        } else {
          this.#same(this.rig.fs.unlink(directory.nodeid, name), 0);
          this.naive.unlink(directory.twin, name);
        }
      }
    };
    this.#what = 'clear';
    empty(this.pairs.get(this.naive.root)!);
    for (const pair of [...this.pairs.values()]) {
      for (const fh of pair.handles) this.rig.fs.release(fh);
      pair.handles = [];
      this.#forget(pair);
    }
    this.#same(this.rig.fs.inodeCount, 1);
    this.#same(this.rig.store.room().usedPageCount, 0);
    this.#same(new Set(this.rig.store.removed).size <= this.rig.store.removed.length, true);
  }
}

t.test('answers and keeps what its naive twin does', async (t) => {
  await fuzz(t, (random) => {
    const model = new Model(random);
    for (let step = 0; step < STEPS; step += 1) {
      model.step();
      if (step % 300 === 299) model.check();
    }
    model.clear();
  });
});
