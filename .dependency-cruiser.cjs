/** Architecture rules: imports go one way (docs/architecture.md, "Folders"). */
const middle = 'nbd-server|fuse-fs|tier|objects|peer|direct|provider|control-plane';

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'common-imports-nothing-of-ours',
      severity: 'error',
      from: { path: '^common/' },
      to: { path: `^(${middle}|daemon|sdk|cli|bench|test)/` },
    },
    {
      name: 'middle-folders-never-import-each-other',
      severity: 'error',
      from: { path: `^(${middle})/` },
      to: { path: `^(${middle})/`, pathNot: '^$1/' },
    },
    {
      name: 'middle-folders-import-only-common',
      severity: 'error',
      from: { path: `^(${middle})/` },
      to: { path: '^(daemon|sdk|cli|bench|test)/' },
    },
    {
      name: 'only-the-daemon-composes',
      comment:
        'sdk and cli reach the daemon by RPC; they never link its parts. The NBD client library stands alone: the demo checks volumes with it',
      severity: 'error',
      from: { path: '^(sdk|cli)/' },
      to: { path: `^(${middle}|daemon|bench|test)/`, pathNot: '^nbd-server/(client/|constants)' },
    },
    {
      name: 'sdk-imports-only-common',
      severity: 'error',
      from: { path: '^sdk/' },
      to: { path: '^cli/' },
    },
    {
      name: 'only-wire-joins-middle-folders',
      comment:
        'daemon/wire.ts and its parts (wire-*.ts) are the files that know both ends of a seam',
      severity: 'error',
      from: {
        path: '^daemon/',
        pathNot:
          '^daemon/wire(-control-plane|-direct|-discovery|-exports|-handover|-managed|-managed-client|-mount|-mount-memory|-mount-parts|-mount-pool|-objects|-parts|-trust|-volume)?\\.ts$',
      },
      to: { path: `^(${middle})/`, dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'pure-codecs-and-machines',
      comment: 'a codec or machine takes bytes, time and randomness as arguments (house rule 3)',
      severity: 'error',
      from: {
        path: '(/|-)(codec|constants|frame|messages|negotiation|transmission|request-table|machine|ring|page-map|placement|expression|statements)\\.ts$|^peer/noise/|^direct/(keys|tickets|export-life|page-bits)\\.ts$',
        pathNot: '^test/',
      },
      to: {
        path: '^(node:)?(net|fs|fs/promises|timers|timers/promises|child_process|dgram|tls|http)$|^pino$',
      },
    },
    {
      name: 'product-never-imports-tests',
      severity: 'error',
      from: { pathNot: '^(test|bench)/' },
      to: { path: '^(test|bench)/' },
    },
    {
      name: 'no-dev-dependency-in-product',
      severity: 'error',
      from: { pathNot: '^(test|bench)/|^cli/package/bundle\\.ts$|\\.config\\.js$' },
      to: { dependencyTypes: ['npm-dev'], pathNot: '@types/' },
    },
    { name: 'not-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
