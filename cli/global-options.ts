/** The options that every command takes. */

/** As the parser takes them; the socket's default depends on the machine. */
export const GLOBAL_OPTIONS = {
  socket: {
    alias: 's',
    type: 'string',
    describe: 'RPC socket of the daemon (also MEMCLOUD_SOCKET)',
  },
  json: { type: 'boolean', default: false, describe: 'print JSON on stdout' },
} as const;
