/**
 * Real etcd for tests: one member or a cluster, on free ports of the loopback, with data in a temporary
 * directory. Members end with the test, also when it fails, and with the test's process.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import { freePort } from './free-ports.ts';
import { requires } from './judges.ts';
import { DIES_WITH_US } from './lab-process.ts';

const START_TIMEOUT_MS = 60_000;

/** For tap's options, which tap writes to: a reason to skip when there is no etcd. */
export const requiresEtcd = (): { skip: string | false } => requires('etcd', 'setpriv');

/** Files for TLS between etcd and its clients, PEM. */
export interface EtcdTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** A member of a cluster. */
export interface EtcdMember {
  /** `127.0.0.1:PORT`, where clients reach it. */
  readonly host: string;
  /** Kills it as a crash would and waits until it is gone. */
  kill(): Promise<void>;
  /** Starts it again, with the same data and ports. */
  start(): Promise<void>;
  /** Stops it in its tracks: connections stay, nothing answers. */
  freeze(): void;
  /** Lets it go on. */
  thaw(): void;
  /** Whether it leads the cluster; false when it does not answer. */
  leads(): Promise<boolean>;
}

/** A running cluster. */
export interface EtcdCluster {
  readonly members: readonly EtcdMember[];
  /** `etcd://HOST:PORT,...` */
  readonly address: string;
  /** Waits until a member leads, and gives it. */
  readonly leader: () => Promise<EtcdMember>;
}

/** Starts a cluster of `memberCount` and waits until each member is healthy. */
export async function startEtcd(
  t: Test,
  {
    memberCount = 1,
    tls,
    extra = [],
  }: { memberCount?: number; tls?: EtcdTls; extra?: string[] } = {},
): Promise<EtcdCluster> {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'mc-etcd-'));
  t.teardown(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  const scheme = tls === undefined ? 'http' : 'https';
  const plans = [];
  for (let index = 0; index < memberCount; index += 1) {
    plans.push({ name: `m${index}`, client: await freePort(), peer: await freePort() });
  }
  const cluster = plans.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`).join(',');
  const members = plans.map(({ name, client, peer }) => {
    const clientUrl = `${scheme}://127.0.0.1:${client}`;
    const options: Record<string, string> = {
      name,
      'data-dir': path.join(directory, name),
      'listen-client-urls': clientUrl,
      'advertise-client-urls': clientUrl,
      'listen-peer-urls': `http://127.0.0.1:${peer}`,
      'initial-advertise-peer-urls': `http://127.0.0.1:${peer}`,
      'initial-cluster': cluster,
      'log-level': 'error',
      logger: 'zap',
    };
    if (tls !== undefined) {
      options['cert-file'] = tls.cert;
      options['key-file'] = tls.key;
      options['trusted-ca-file'] = tls.ca;
      options['client-cert-auth'] = 'true';
    }
    const args = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
    return new Member(t, `127.0.0.1:${client}`, [...args, ...extra], tls);
  });
  await Promise.all(members.map((member) => member.start()));
  return {
    members,
    address: `etcd://${members.map(({ host }) => host).join(',')}`,
    leader: async () => {
      const endMs = performance.now() + START_TIMEOUT_MS;
      for (;;) {
        for (const member of members) if (await member.leads()) return member;
        if (performance.now() > endMs) throw new Error('no member of the cluster leads');
        await delay(50);
      }
    },
  };
}

class Member implements EtcdMember {
  readonly host: string;
  readonly #args: readonly string[];
  readonly #tls: EtcdTls | undefined;
  #process: ChildProcess | undefined;

  constructor(t: Test, host: string, args: readonly string[], tls: EtcdTls | undefined) {
    this.host = host;
    this.#args = args;
    this.#tls = tls;
    const kill = (): void => {
      this.#process?.kill('SIGKILL');
    };
    process.once('exit', kill);
    t.teardown(async () => {
      process.off('exit', kill);
      await this.kill();
    });
  }

  async start(): Promise<void> {
    const [launcher, ...words] = DIES_WITH_US;
    const command = [...words, 'etcd', ...this.#args];
    const child = spawn(launcher, command, { stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (text: Buffer) => {
      errors = (errors + text.toString()).slice(-2000);
    });
    this.#process = child;
    const endMs = performance.now() + START_TIMEOUT_MS;
    while (!(await this.#healthy())) {
      if (child.exitCode !== null || performance.now() > endMs) {
        throw new Error(`etcd did not start: ${errors}`);
      }
      await delay(50);
    }
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#process?.kill('SIGCONT');
  }

  async leads(): Promise<boolean> {
    const status = await this.#ask('/v3/maintenance/status', '{}');
    if (status === undefined) return false;
    const { leader, header } = JSON.parse(status) as {
      leader?: string;
      header?: { member_id?: string };
    };
    return leader !== undefined && leader === header?.member_id;
  }

  async #healthy(): Promise<boolean> {
    return (await this.#ask('/health')) === '{"health":"true"}';
  }

  /** Asks etcd's gateway; undefined when it does not answer within a second. */
  #ask(route: string, body?: string): Promise<string | undefined> {
    return new Promise((resolve) => {
      const tls = this.#tls;
      const options = { method: body === undefined ? 'GET' : 'POST', timeout: 1000, agent: false };
      const request =
        tls === undefined
          ? http.request(`http://${this.host}${route}`, options)
          : https.request(`https://${this.host}${route}`, {
              ...options,
              ca: fs.readFileSync(tls.ca),
              cert: fs.readFileSync(tls.cert),
              key: fs.readFileSync(tls.key),
            });
      request.on('response', (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => resolve(text.trim()));
        response.on('error', () => resolve(undefined));
      });
      request.on('timeout', () => request.destroy());
      request.on('error', () => resolve(undefined));
      request.end(body);
    });
  }
}
