/**
 * What lists looked like: the encoded items of those that were asked for lately, for whoever asks for the same again
 * while the same objects are there in the same versions. A value of the store is another one with each write, so it is
 * enough to compare which values there are. What is around the items, the list's own version above all, is made anew.
 * Bounded in bytes; a list that nobody has asked for longest goes first.
 */
import type { StoredValue } from '#store/store.ts';
import { keptListBytesMax, listWholeBytesMax } from './limits.ts';

interface Kept {
  values: readonly StoredValue[];
  items: Uint8Array;
}

export class ListCache {
  /** By path, query and encoding. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  find(key: string, values: readonly StoredValue[]): Uint8Array | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    this.#kept.delete(key);
    if (kept.values.length === values.length && values.every((value, i) => value === kept.values[i])) {
      this.#kept.set(key, kept);
      return kept.items;
    }
    this.#bytes -= kept.items.length;
    return undefined;
  }

  /** `items` is given away. */
  keep(key: string, values: readonly StoredValue[], items: Uint8Array): void {
    if (items.length > listWholeBytesMax) return;
    this.#bytes += items.length - (this.#kept.get(key)?.items.length ?? 0);
    this.#kept.delete(key);
    this.#kept.set(key, { values, items });
    for (const [oldest, { items: bytes }] of this.#kept) {
      if (this.#bytes <= keptListBytesMax) return;
      this.#kept.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }

  forget(): void {
    this.#kept.clear();
    this.#bytes = 0;
  }
}
