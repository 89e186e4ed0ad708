import path from 'node:path';
import t, { type Test } from 'tap';
import { runtimePackages } from '../../../cli/guest/node-modules.ts';

/** The text of a package.json. */
function manifest(fields: object): string {
  return JSON.stringify({ version: '1.0.0', ...fields });
}

function places(root: string): string[] {
  return runtimePackages(root)
    .map(({ place, version }) => `${place}@${version}`)
    .sort();
}

t.test('dependencies of dependencies, nested and scoped, but no development tools', async (t) => {
  const root = t.testdir({
    'package.json': manifest({
      dependencies: { a: '1', '@s/b': '1' },
      devDependencies: { tool: '1' },
    }),
    node_modules: {
      a: {
        'package.json': manifest({ dependencies: { c: '2' }, devDependencies: { tool: '1' } }),
        node_modules: { c: { 'package.json': manifest({ version: '2.0.0' }) } },
      },
      '@s': {
        b: {
          'package.json': manifest({
            dependencies: { c: '1', a: '1' },
            optionalDependencies: { native: '1', absent: '1' },
          }),
        },
      },
      c: { 'package.json': manifest({}) },
      native: { 'package.json': manifest({}) },
      tool: { 'package.json': manifest({}) },
    },
  });
  t.same(places(root), [
    'node_modules/@s/b@1.0.0',
    'node_modules/a/node_modules/c@2.0.0',
    'node_modules/a@1.0.0',
    'node_modules/c@1.0.0',
    'node_modules/native@1.0.0',
  ]);
});

t.test('packages hoisted above the root are found', async (t: Test) => {
  const outer = t.testdir({
    node_modules: {
      product: { 'package.json': manifest({ dependencies: { a: '1' } }) },
      a: { 'package.json': manifest({ dependencies: { product: '1' } }) },
    },
  });
  const found = runtimePackages(path.join(outer, 'node_modules/product'));
  t.match(found[0], { folder: path.join(outer, 'node_modules/a') });
  t.match(found[0]?.place, /node_modules\/a$/);
});

t.test('the product itself: koffi with its native part, no test runner', async (t) => {
  const root = path.join(import.meta.dirname, '../../../..');
  const names = places(root).map((place) => place.replace(/^node_modules\/|@[^@]*$/g, ''));
  t.ok(names.includes('koffi'));
  t.ok(names.some((name) => name.startsWith('@koromix/koffi-linux-')));
  t.notOk(names.includes('tap') || names.includes('typescript'));
});
