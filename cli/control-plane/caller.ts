/** How admin commands reach the control plane: by a control node of this machine, else by its memnode. */
import fs from 'node:fs';
import { MemcloudError, asMemcloudError } from '../../common/errors.ts';
import { isKeyPattern } from '../../common/fingerprint.ts';
import { controlSocketPath } from '../../common/paths.ts';
import type {
  ControlAnswers,
  ControlLease,
  ControlMember,
  ControlProvider,
  ControlUsage,
} from '../../common/rpc-control.ts';
import { MemcloudClient } from '../../sdk/client.ts';
import type { GlobalFlags } from '../output.ts';
import { usualSocketPath } from '../usual-socket.ts';

/** Rows of one page. */
const PAGE_ROW_COUNT = 500;
/** Pages of one listing; a control plane that has more rows than this repeats itself. */
const PAGE_COUNT_MAX = 2_000;

/** Calls that answer with pages, and their rows. */
interface PagedRows {
  'admin.providers': ControlProvider;
  'admin.members': ControlMember;
  'admin.usage': ControlUsage;
  'lease.list': ControlLease;
}

/** The socket that is meant: the one that was named, the control node's of this machine, or memnode's. */
export async function controlSocketOf(flags: GlobalFlags): Promise<string> {
  if (flags.socket !== (await usualSocketPath())) return flags.socket;
  const own = controlSocketPath();
  const isNamed = (process.env['MEMCLOUD_CONTROL_SOCKET'] ?? '') !== '';
  return isNamed || fs.existsSync(own) ? own : flags.socket;
}

/** A connection for admins. */
export class ControlCaller {
  /** The daemon itself, for what is about the door of a control node. */
  readonly client: MemcloudClient;

  constructor(client: MemcloudClient) {
    this.client = client;
  }

  /** One call of the control plane. @throws MemcloudError its refusal */
  async call<C extends keyof ControlAnswers>(
    call: C,
    params: Readonly<Record<string, unknown>> = {},
  ): Promise<ControlAnswers[C]> {
    return (await this.client.call('control.call', { call, params })) as ControlAnswers[C];
  }

  /** Every row of a listing. */
  async all<C extends keyof PagedRows>(
    call: C,
    params: Readonly<Record<string, unknown>> = {},
  ): Promise<PagedRows[C][]> {
    const rows: PagedRows[C][] = [];
    let cursor: string | null = null;
    for (let page = 0; page < PAGE_COUNT_MAX; page += 1) {
      const from: Record<string, unknown> = cursor === null ? {} : { cursor };
      const next = (await this.call(call, {
        ...params,
        ...from,
        countMax: PAGE_ROW_COUNT,
      })) as { rows: PagedRows[C][]; cursor: string | null };
      rows.push(...next.rows);
      if (next.cursor === null) return rows;
      cursor = next.cursor;
    }
    throw new MemcloudError('ERR_CONTROL_PROTOCOL', `${call}: the listing does not end`);
  }

  /**
   * The key of a member or provider that a person named: words, ids and keys as they are, names looked up.
   *
   * @param rows - who is known
   * @throws MemcloudError `ERR_PEER_UNKNOWN`, `ERR_USAGE` when several bear the name
   */
  keyOf(which: string, rows: readonly { nodeId: string; name: string }[]): string {
    if (isKeyPattern(which)) return which.trim().toLowerCase();
    const wanted = which.toLowerCase();
    const found = rows.filter(({ name }) => name.toLowerCase() === wanted);
    const [only] = found;
    if (only !== undefined && found.length === 1 && only.nodeId !== '') return only.nodeId;
    if (found.length > 1) {
      throw new MemcloudError('ERR_USAGE', `${found.length} have that name; say which by its id`);
    }
    throw new MemcloudError('ERR_PEER_UNKNOWN', 'the control plane knows none of that name or key');
  }
}

async function connect(flags: GlobalFlags): Promise<MemcloudClient> {
  const socketPath = await controlSocketOf(flags);
  try {
    return await MemcloudClient.connect(socketPath);
  } catch (thrown) {
    const error = asMemcloudError(thrown);
    if (error.code !== 'ERR_DAEMON_UNREACHABLE') throw error;
    const message =
      `neither a control node nor a memnode answers on ${socketPath}; start a control node with: ` +
      'memcloud control-plane';
    throw new MemcloudError(error.code, message, { cause: thrown });
  }
}

/** Connects, runs `work`, and closes the connection however it ends. */
export async function withControl<T>(
  flags: GlobalFlags,
  work: (caller: ControlCaller) => Promise<T>,
): Promise<T> {
  const client = await connect(flags);
  try {
    return await work(new ControlCaller(client));
  } finally {
    client.close();
  }
}
