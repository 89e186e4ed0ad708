/**
 * What two hops with one encryption cannot cost less than on this machine: the processor time of the null
 * server behind the client's socket, once more behind TCP for the second hop, the page sealed once by the
 * system's openssl, and copied once to where it stays. The record's own tag, and every decision, are left out. Pure.
 */
import { formatNumber, layOut } from '../table.ts';

/** The parts of a floor, microseconds of a page. */
export interface FloorParts {
  readonly nullUnixUs: number;
  readonly nullTcpUs: number;
  readonly sealUs: number;
  readonly copyUs: number;
}

/** Ours beside it. */
export interface Floor extends FloorParts {
  readonly workload: string;
  /** The sum of the parts. */
  readonly floorUs: number;
  /** Consumer and provider. */
  readonly oursUs: number;
}

/** Puts ours beside the floor. */
export function floorOf(workload: string, oursUs: number, parts: FloorParts): Floor {
  const floorUs = parts.nullUnixUs + parts.nullTcpUs + parts.sealUs + parts.copyUs;
  return { workload, ...parts, floorUs, oursUs };
}

/** A row for each load. */
export function renderFloors(floors: readonly Floor[]): string {
  const header = ['CPU us per page', 'null, Unix', 'null, TCP', 'sealed in C', 'copied', 'floor'];
  const rows = floors.map((floor) => [
    floor.workload,
    ...[floor.nullUnixUs, floor.nullTcpUs, floor.sealUs, floor.copyUs, floor.floorUs].map(
      formatNumber,
    ),
    ...[formatNumber(floor.oursUs), formatNumber(floor.oursUs / floor.floorUs)],
  ]);
  return layOut([...header, 'ours', 'ours / floor'], rows);
}
