/**
 * mDNS on every link of this machine, however they come and go: the interfaces are looked at once a
 * second (`INTERFACE_POLL_MS`), since a cable, a radio or a tunnel does not tell. A link that went is
 * closed, one that came is asked at once, one that failed is tried again later.
 */
import fs from 'node:fs';
import os from 'node:os';
import type { Logger } from '../../common/log.ts';
import { INTERFACE_POLL_MS, LINK_RETRY_MS } from './constants.ts';
import { chooseLinks, type InterfaceFacts, type LinkChoice } from './links.ts';
import { MdnsLink, type MdnsLinkOptions } from './mdns-link.ts';

/** Linux `if.h`. */
const IFF_UP = 0x1;
const IFF_MULTICAST = 0x1000;

/** How mDNS is run. */
export interface MdnsOptions extends Omit<MdnsLinkOptions, 'onFailed'> {
  readonly choice: LinkChoice;
  readonly logger: Logger;
}

/** What the kernel says of an interface; undefined when it is gone. */
function factsOf(name: string): InterfaceFacts | undefined {
  const read = (file: string): number =>
    Number(fs.readFileSync(`/sys/class/net/${name}/${file}`, 'utf8').trim());
  try {
    const flags = read('flags');
    const multicasts = (flags & IFF_UP) !== 0 && (flags & IFF_MULTICAST) !== 0;
    return { index: read('ifindex'), multicasts };
  } catch {
    return undefined;
  }
}

/** See the top of the file. */
export class Mdns {
  readonly #options: MdnsOptions;
  readonly #links = new Map<string, MdnsLink>();
  /** Links that failed, and when they are tried again. */
  readonly #retryAtMs = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #closed = false;

  /** Begins at once. */
  constructor(options: MdnsOptions) {
    this.#options = options;
    this.#poll();
    this.#timer = setInterval(() => this.#poll(), INTERFACE_POLL_MS).unref();
  }

  /** The interfaces in use, with their families, for people. */
  get links(): string[] {
    return [...this.#links.values()].map(({ link }) => `${link.name} ${link.family}`);
  }

  /** Says goodbye everywhere. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    const links = [...this.#links.values()];
    this.#links.clear();
    await Promise.all(links.map((link) => link.close()));
  }

  #poll(): void {
    if (this.#closed) return;
    const { choice, clock, logger } = this.#options;
    const nowMs = clock.nowMs();
    const wanted = new Map(
      chooseLinks(os.networkInterfaces(), factsOf, choice).map((link) => [link.key, link]),
    );
    for (const [key, link] of this.#links) {
      if (!wanted.has(key)) this.#end(key, link, 'mDNS: the link is gone');
    }
    for (const key of this.#retryAtMs.keys()) if (!wanted.has(key)) this.#retryAtMs.delete(key);
    for (const [key, link] of wanted) {
      if (this.#links.has(key) || nowMs < (this.#retryAtMs.get(key) ?? 0)) continue;
      const { name: networkInterface, family, address } = link;
      logger.debug({ networkInterface, family, address }, 'mDNS: a link is used');
      const onFailed: MdnsLinkOptions['onFailed'] = (error) => this.#onFailed(key, error);
      this.#links.set(key, new MdnsLink(link, { ...this.#options, onFailed }));
    }
  }

  #onFailed(key: string, error: Error): void {
    const link = this.#links.get(key);
    if (link === undefined) return;
    const { name: networkInterface, family } = link.link;
    // A link that comes up has no address to send from for a moment: that is no news the first time.
    const level = this.#retryAtMs.has(key) ? 'warn' : 'debug';
    this.#options.logger[level](
      { networkInterface, family, error: error.message },
      'mDNS does not work on a link',
    );
    const isFirst = !this.#retryAtMs.has(key);
    const waitMs = isFirst ? INTERFACE_POLL_MS : LINK_RETRY_MS;
    this.#retryAtMs.set(key, this.#options.clock.nowMs() + waitMs);
    this.#end(key, link, 'mDNS: a link is given up for a while');
  }

  #end(key: string, link: MdnsLink, why: string): void {
    const { name: networkInterface, family } = link.link;
    this.#options.logger.debug({ networkInterface, family }, why);
    this.#links.delete(key);
    void link.close();
  }
}
