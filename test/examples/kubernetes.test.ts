/**
 * The manifests of examples/kubernetes, without a cluster: each against the schema of Kubernetes (required
 * fields and values by the validators of kubernetes-models, unknown fields by its types), against each
 * other (selectors, ports, names), and against the tables of our own programs.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';
import { hasTool } from '../../common/tool.ts';
import {
  problemsOfCommand,
  problemsOfConfig,
  problemsOfVariables,
} from '../helpers/written-commands.ts';

const ROOT = path.join(import.meta.dirname, '../../..');
const FOLDER = path.join(ROOT, 'examples/kubernetes');
const IMAGE = 'registry.example/memcloud:0.1.0';
/** Of the peer port: memnode, control node. */
const PEER_PORT = 7070;
const CONTROL_PORT = 7071;
const require = createRequire(import.meta.url);

interface Container {
  name: string;
  image: string;
  command: string[];
  args?: string[];
  env?: { name: string; value?: string; valueFrom?: unknown }[];
  ports?: { name: string; containerPort: number }[];
  securityContext?: { privileged?: boolean; capabilities?: unknown };
  volumeMounts?: { name: string; mountPath: string }[];
  lifecycle?: Record<string, { exec: { command: string[] } }>;
  startupProbe?: { exec: { command: string[] } };
}

interface Pod {
  serviceAccountName?: string;
  hostNetwork?: boolean;
  containers: Container[];
  initContainers?: Container[];
  volumes?: { name: string; configMap?: { name: string } }[];
}

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  data?: Record<string, string>;
  spec?: {
    selector?: { matchLabels?: Record<string, string> } & Record<string, unknown>;
    serviceName?: string;
    clusterIP?: string;
    ports?: { port: number; targetPort: string }[];
    template?: { metadata: { labels: Record<string, string> }; spec: Pod };
    volumeClaimTemplates?: { metadata: { name: string } }[];
  };
}

interface Model {
  validate(): void;
}

const files = fs.readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));
const documents = files.flatMap((file) =>
  parseAllDocuments(fs.readFileSync(path.join(FOLDER, file), 'utf8')).map((document) => ({
    file,
    errors: [...document.errors, ...document.warnings].map(String),
    manifest: document.toJS() as Manifest,
  })),
);
const manifests = documents.map(({ manifest }) => manifest);
const label = ({ kind, metadata }: Manifest): string => `${kind}/${metadata.name}`;
const podsOf = (list: readonly Manifest[]) =>
  list.flatMap((manifest) => {
    const template = manifest.spec?.template;
    return template === undefined ? [] : [{ manifest, template, pod: template.spec }];
  });
const ours = podsOf(manifests).flatMap(({ manifest, pod }) =>
  [...(pod.initContainers ?? []), ...pod.containers]
    .filter(({ image }) => image === IMAGE)
    .map((container) => ({ manifest, pod, container })),
);

t.test('every document is YAML without a warning, in our namespace', (t) => {
  t.ok(documents.length >= 15, `${documents.length} documents`);
  const clusterWide = ['Namespace', 'ClusterRole', 'ClusterRoleBinding'];
  for (const { file, errors, manifest } of documents) {
    t.same(errors, [], file);
    const namespace = clusterWide.includes(manifest.kind) ? undefined : 'memcloud';
    t.equal(manifest.metadata.namespace, namespace, `${file} ${label(manifest)}`);
  }
  t.end();
});

t.test('the schema of Kubernetes takes each', (t) => {
  for (const { file, manifest } of documents) {
    const loaded = require(`kubernetes-models/${manifest.apiVersion}/${manifest.kind}`) as Record<
      string,
      new (data: unknown) => Model
    >;
    const Kind = loaded[manifest.kind];
    t.doesNotThrow(() => new Kind!(manifest).validate(), `${file} ${label(manifest)}`);
    // The validator looks: without what is required it refuses.
    const { metadata, ...rest } = manifest;
    if (rest.spec?.template !== undefined) {
      const broken = { ...rest, metadata, spec: { ...rest.spec, template: { spec: {} } } };
      t.throws(() => new Kind!(broken).validate(), `${label(manifest)} without containers`);
    }
  }
  t.end();
});

/** Type errors of manifests written as literals of their types: also of fields that do not exist. */
function typeErrors(list: readonly { name: string; manifest: Manifest }[]): string[] {
  // Inside the project, so that the package and its types are found.
  const folder = fs.mkdtempSync(path.join(ROOT, 'dist/test/manifests-'));
  try {
    const file = path.join(folder, 'manifests.ts');
    const lines = list.map(({ name, manifest }, index) => {
      const { apiVersion, kind } = manifest;
      const type = `import('kubernetes-models/${apiVersion}/${kind}').I${kind}`;
      return `export const at${index}: ${type} = ${JSON.stringify(manifest)}; // ${name}`;
    });
    fs.writeFileSync(file, lines.join('\n'));
    const program = ts.createProgram([file], {
      ...{ strict: true, noEmit: true, skipLibCheck: true, types: [] },
      ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext },
    });
    return ts.getPreEmitDiagnostics(program).map(({ messageText, start = 0 }) => {
      const at = fs.readFileSync(file, 'utf8').slice(0, start).split('\n').length - 1;
      return `${list[at]?.name}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
    });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

t.test('no manifest has a field that Kubernetes does not know', { timeout: 120_000 }, (t) => {
  const good = documents.map(({ file, manifest }) => ({
    ...{ name: `${file} ${label(manifest)}`, manifest },
  }));
  const [one] = good.filter(({ manifest }) => manifest.kind === 'DaemonSet');
  const misspelt = structuredClone(one!);
  misspelt.name = 'misspelt';
  const [container] = misspelt.manifest.spec!.template!.spec.containers;
  Object.assign(container!, { volumeMount: [] });
  const errors = typeErrors([...good, misspelt]);
  t.equal(errors.length, 1, errors.join('\n'));
  t.match(errors[0], /^misspelt: .*volumeMount/, 'and the check sees what is misspelt');
  t.end();
});

t.test('selectors, services, accounts, volumes and config maps belong together', (t) => {
  const named = (kind: string, name: string | undefined): boolean =>
    manifests.some((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  for (const { manifest, template, pod } of podsOf(manifests)) {
    const who = label(manifest);
    t.hasStrict(template.metadata.labels, manifest.spec?.selector?.matchLabels, `${who} labels`);
    if (pod.serviceAccountName !== undefined) {
      t.ok(named('ServiceAccount', pod.serviceAccountName), `${who} account`);
    }
    const { serviceName } = manifest.spec ?? {};
    if (manifest.kind === 'StatefulSet') {
      const service = manifests.find(
        ({ kind, metadata }) => kind === 'Service' && metadata.name === serviceName,
      );
      t.equal(service?.spec?.clusterIP, 'None', `${who} has a headless service`);
      t.hasStrict(template.metadata.labels, service?.spec?.selector, `${who} is selected by it`);
      const ports = pod.containers.flatMap((container) => container.ports ?? []);
      for (const { port, targetPort } of service?.spec?.ports ?? []) {
        t.equal(ports.find(({ name }) => name === targetPort)?.containerPort, port, `${who} port`);
      }
    }
    const volumes = [
      ...(pod.volumes ?? []).map(({ name }) => name),
      ...(manifest.spec?.volumeClaimTemplates ?? []).map(({ metadata }) => metadata.name),
    ];
    const mounted = [...pod.containers, ...(pod.initContainers ?? [])].flatMap(
      ({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name),
    );
    t.same([...new Set(mounted)].sort(), volumes.sort(), `${who}: each volume is mounted`);
    for (const { configMap } of pod.volumes ?? []) {
      if (configMap !== undefined) t.ok(named('ConfigMap', configMap.name), `${who} config map`);
    }
  }
  t.end();
});

t.test('every variable, flag, file and command is one of ours', (t) => {
  t.ok(ours.length >= 5, `${ours.length} containers of our image`);
  for (const { manifest, container } of ours) {
    const { name, command, args = [], env = [], lifecycle = {}, startupProbe } = container;
    const who = `${label(manifest)} ${name}`;
    const written = env.map(({ name: key, value }) => [key, value ?? 'from-the-cluster'] as const);
    t.same(problemsOfVariables(Object.fromEntries(written)), [], `${who} env`);
    const hooks = [
      ...Object.values(lifecycle),
      ...(startupProbe === undefined ? [] : [startupProbe]),
    ];
    const lines = [
      [...command, ...args],
      ...hooks.flatMap(({ exec }) => {
        const [program, , script = ''] = exec.command;
        if (program !== 'sh') return [exec.command];
        return [...script.matchAll(/\bmemcloud [^\n>;|&]*/g)].map(([line]) =>
          line.trim().split(' '),
        );
      }),
    ];
    for (const [program, ...words] of lines) {
      if (program === 'memcloud')
        t.same(problemsOfCommand(words), [], `${who}: ${words.join(' ')}`);
      else t.ok(['memnode', 'node'].includes(program ?? ''), `${who}: ${program}`);
      if (program === 'memnode') t.same(words, [], `${who} is told by variables`);
    }
  }
  t.same(problemsOfCommand(['status', '--no-such-flag=1']).length, 1, 'a wrong flag is seen');
  t.same(problemsOfVariables({ MEMCLOUD_OFER: '1G', MEMCLOUD_OFFER: '1 cow' }).length, 2);
  for (const manifest of manifests.filter(({ kind }) => kind === 'ConfigMap')) {
    for (const [key, text] of Object.entries(manifest.data ?? {})) {
      if (key.endsWith('.toml')) t.same(problemsOfConfig(text), [], `${label(manifest)} ${key}`);
    }
  }
  t.end();
});

t.test('ports are the defaults, images the one that the README names', (t) => {
  const readme = fs.readFileSync(path.join(FOLDER, 'README.md'), 'utf8');
  t.match(readme, IMAGE);
  for (const { manifest, pod } of podsOf(manifests)) {
    for (const { image } of pod.containers) {
      t.ok(image === IMAGE || readme.includes(image), `${label(manifest)}: ${image}`);
    }
  }
  for (const { manifest, container } of ours) {
    const isControl = manifest.metadata.name === 'memcloud-control';
    const expected = isControl ? CONTROL_PORT : PEER_PORT;
    for (const { containerPort } of container.ports ?? []) {
      t.equal(containerPort, expected, `${label(manifest)} ${container.name}`);
    }
  }
  t.end();
});

t.test('a provider and a control node have no privilege; a consumer says why it has', (t) => {
  for (const { manifest, pod, container } of ours) {
    const who = `${label(manifest)} ${container.name}`;
    if (manifest.metadata.name === 'memcloud-consumer') {
      t.equal(container.securityContext?.privileged, true, who);
      continue;
    }
    t.match(
      container.securityContext,
      {
        ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
        capabilities: { drop: ['ALL'] },
      },
      who,
    );
    t.notOk(container.securityContext?.privileged ?? pod.hostNetwork ?? false, who);
  }
  t.end();
});

const noOpenssl = hasTool('openssl') ? false : 'openssl is not installed';

/** An API server in miniature: one node, for whoever shows the token. */
async function apiServer(t: Test, folder: string, labels: object): Promise<AddressInfo> {
  const [key, ca] = [path.join(folder, 'key'), path.join(folder, 'ca.crt')];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-keyout', key, '-out', ca, '-days', '1', '-subj', '/CN=test'],
      ...['-addext', 'subjectAltName=IP:127.0.0.1'],
    ],
    { stdio: 'pipe' },
  );
  fs.writeFileSync(path.join(folder, 'token'), 'a-token\n');
  const options = { key: fs.readFileSync(key), cert: fs.readFileSync(ca) };
  const server = https.createServer(options, ({ headers, url }, response) => {
    const isKnown = headers.authorization === 'Bearer a-token' && url === '/api/v1/nodes/worker-1';
    response.statusCode = isKnown ? 200 : 403;
    response.end(JSON.stringify(isKnown ? { metadata: { name: 'worker-1', labels } } : {}));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server.address() as AddressInfo;
}

async function runZone(
  folder: string,
  port: number,
  node: string,
): Promise<{ code: number | null; text: string }> {
  const program = path.join(folder, 'zone.mjs');
  const source = manifests.find(({ metadata }) => metadata.name === 'memcloud-zone');
  fs.writeFileSync(program, source?.data?.['zone.mjs'] ?? '');
  const file = path.join(folder, 'zone.toml');
  fs.rmSync(file, { force: true });
  const child = spawn(process.execPath, [program], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      ...{ NODE_NAME: node, ZONE_FILE: file, ACCOUNT_DIR: folder },
      ...{ KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(port) },
    },
  });
  child.stderr.resume();
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, text: fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : 'no file' };
}

t.test('the zone of a node comes from the API server', { skip: noOpenssl }, async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mc-zone-'));
  t.teardown(() => fs.rmSync(folder, { recursive: true }));
  const labels = { 'topology.kubernetes.io/zone': 'eu-1a' };
  const { port } = await apiServer(t, folder, labels);
  const found = await runZone(folder, port, 'worker-1');
  t.same(found, { code: 0, text: 'zone = "eu-1a"\n' });
  t.same(problemsOfConfig(found.text), [], 'memnode takes it');
  t.same(await runZone(folder, port, 'other'), { code: 1, text: 'no file' }, 'refused: it fails');
  const without = await apiServer(t, folder, {});
  t.same(await runZone(folder, without.port, 'worker-1'), { code: 0, text: '' }, 'no zone');
});
