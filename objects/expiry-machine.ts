/**
 * Which object's time is over next: a binary heap of object numbers by the time of their end, with the
 * place of each in the heap, so that one that is deleted before its time leaves at once. Objects without an
 * end are not in it, and a look at the time costs nothing while none is due. Pure.
 */

const NONE = 0xffff_ffff;

/** The heap. Object numbers are rows of a table, small and dense. */
export class ExpiryHeap {
  readonly #objects: number[] = [];
  readonly #endsMs: number[] = [];
  /** By object; {@link NONE}: it is not in the heap. */
  #places = new Uint32Array(0);

  /** Objects with an end. */
  get count(): number {
    return this.#objects.length;
  }

  /** Adds an object that is not in it. */
  add(object: number, endMs: number): void {
    if (object >= this.#places.length) this.#lengthen(object);
    this.#rise(this.#objects.length, object, endMs);
  }

  /** Takes an object out, if it is in it. */
  remove(object: number): void {
    const place = this.#places[object] ?? NONE;
    if (place === NONE) return;
    this.#places[object] = NONE;
    const last = this.#objects.pop() as number;
    const lastEndMs = this.#endsMs.pop() as number;
    if (this.#objects.length === 0) this.#places = new Uint32Array(0);
    if (last === object) return;
    this.#sink(place, last, lastEndMs);
    this.#rise(this.#places[last] as number, last, lastEndMs);
  }

  /** The object whose end came first and is not after `nowMs`; it stays until it is removed. */
  due(nowMs: number): number | undefined {
    const endMs = this.#endsMs[0];
    return endMs !== undefined && endMs <= nowMs ? this.#objects[0] : undefined;
  }

  #lengthen(object: number): void {
    const longer = new Uint32Array(Math.ceil((object + 1) * 1.5)).fill(NONE);
    longer.set(this.#places);
    this.#places = longer;
  }

  #rise(from: number, object: number, endMs: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const parentEndMs = this.#endsMs[parent] as number;
      if (parentEndMs <= endMs) break;
      this.#put(place, this.#objects[parent] as number, parentEndMs);
      place = parent;
    }
    this.#put(place, object, endMs);
  }

  #sink(from: number, object: number, endMs: number): void {
    let place = from;
    for (;;) {
      let child = place * 2 + 1;
      if (child >= this.#objects.length) break;
      const right = this.#endsMs[child + 1];
      if (right !== undefined && right < (this.#endsMs[child] as number)) child += 1;
      const childEndMs = this.#endsMs[child] as number;
      if (childEndMs >= endMs) break;
      this.#put(place, this.#objects[child] as number, childEndMs);
      place = child;
    }
    this.#put(place, object, endMs);
  }

  #put(place: number, object: number, endMs: number): void {
    this.#objects[place] = object;
    this.#endsMs[place] = endMs;
    this.#places[object] = place;
  }
}
