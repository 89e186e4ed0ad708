/**
 * The machine-readable report of `openssl speed -mr` (openssl-speed(1)). Of its lines two matter:
 * `+H:SIZE...` names the bytes of a message, `+F:INDEX:CIPHER:RATE...` the bytes a second for each of
 * them, in the same order. Pure.
 */

/** How fast a cipher ran with messages of one size. */
export interface CipherSpeed {
  readonly cipher: string;
  readonly messageBytes: number;
  readonly bytesPerSecond: number;
}

/** Reads the report; other lines are passed over. @throws RangeError when it names no size or no rate */
export function parseOpensslSpeed(text: string): CipherSpeed[] {
  const sizes = (/^\+H((?::\d+)+)$/m.exec(text)?.[1] ?? '').split(':').slice(1).map(Number);
  const speeds = [...text.matchAll(/^\+F:\d+:([^:\n]+)((?::[\d.]+)+)$/gm)].flatMap((line) => {
    const rates = (line[2] ?? '').split(':').slice(1).map(Number);
    if (rates.length !== sizes.length) {
      throw new RangeError(`openssl speed: ${sizes.length} sizes, but ${rates.length} rates`);
    }
    return rates.map((bytesPerSecond, at) => ({
      cipher: line[1] ?? '',
      messageBytes: sizes[at] ?? 0,
      bytesPerSecond,
    }));
  });
  if (speeds.length === 0) throw new RangeError('openssl speed: expected a line "+F:", got none');
  return speeds;
}

/** Microseconds that one message took. */
export function messageUs({ messageBytes, bytesPerSecond }: CipherSpeed): number {
  return (messageBytes / bytesPerSecond) * 1e6;
}
