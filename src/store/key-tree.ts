/**
 * A sorted map from keys to records: a list of sorted leaves, copied on write. `clone` shares every leaf, so that a
 * fork of a store with 10,000 keys copies a few dozen pointers; a leaf is copied when either side first writes to it.
 */
import { treeLeafKeysMax } from './limits.ts';

interface Leaf<T> {
  keys: string[];
  values: T[];
  owner: object;
}

export class KeyTree<T> {
  #leaves: Leaf<T>[] = [];
  #owner = {};
  size = 0;
  /** Where the last key that was looked for is, or would be: a transaction asks for the same one several times. */
  #last: string | undefined;
  #lastLeaf = 0;
  #lastAt = 0;

  clone(): KeyTree<T> {
    const copy = new KeyTree<T>();
    copy.#leaves = this.#leaves.slice();
    copy.size = this.size;
    this.#owner = {}; // neither side owns the shared leaves any more
    return copy;
  }

  /** The last leaf whose first key is ≤ key. */
  #leafIndex(key: string): number {
    let low = 0;
    let high = this.#leaves.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#leaves[middle]!.keys[0]! <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The first position in the leaf whose key is ≥ key. */
  #position(leaf: Leaf<T>, key: string): number {
    let low = 0;
    let high = leaf.keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (leaf.keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #locate(key: string): void {
    if (key === this.#last) return;
    this.#lastLeaf = this.#leafIndex(key);
    this.#lastAt = this.#position(this.#leaves[this.#lastLeaf]!, key);
    this.#last = key;
  }

  get(key: string): T | undefined {
    if (this.#leaves.length === 0) return undefined;
    this.#locate(key);
    const leaf = this.#leaves[this.#lastLeaf]!;
    return leaf.keys[this.#lastAt] === key ? leaf.values[this.#lastAt] : undefined;
  }

  #writable(index: number): Leaf<T> {
    const leaf = this.#leaves[index]!;
    if (leaf.owner === this.#owner) return leaf;
    return (this.#leaves[index] = { keys: leaf.keys.slice(), values: leaf.values.slice(), owner: this.#owner });
  }

  set(key: string, value: T): void {
    if (this.#leaves.length === 0) this.#leaves.push({ keys: [], values: [], owner: this.#owner });
    this.#locate(key);
    const index = this.#lastLeaf;
    const at = this.#lastAt;
    const leaf = this.#writable(index);
    if (leaf.keys[at] === key) {
      leaf.values[at] = value;
      return;
    }
    leaf.keys.splice(at, 0, key);
    leaf.values.splice(at, 0, value);
    this.size++;
    if (leaf.keys.length <= treeLeafKeysMax) return;
    this.#last = undefined;
    // keys mostly arrive in order: split near the end there, in the middle otherwise
    const cut = at === leaf.keys.length - 1 ? treeLeafKeysMax - 8 : leaf.keys.length >> 1;
    this.#leaves.splice(index + 1, 0, {
      keys: leaf.keys.splice(cut),
      values: leaf.values.splice(cut),
      owner: this.#owner,
    });
  }

  delete(key: string): void {
    if (this.#leaves.length === 0) return;
    this.#locate(key);
    const index = this.#lastLeaf;
    const at = this.#lastAt;
    if (this.#leaves[index]!.keys[at] !== key) return;
    this.#last = undefined;
    const leaf = this.#writable(index);
    leaf.keys.splice(at, 1);
    leaf.values.splice(at, 1);
    this.size--;
    if (leaf.keys.length === 0) this.#leaves.splice(index, 1);
  }

  /** Calls `visit` in key order for keys with the prefix and after `after`; stops when it returns false. */
  scan(prefix: string, after: string | undefined, visit: (value: T, key: string) => boolean | void): void {
    if (this.#leaves.length === 0) return;
    const start = after !== undefined && after > prefix ? after : prefix;
    let index = this.#leafIndex(start);
    let at = this.#position(this.#leaves[index]!, start);
    for (; index < this.#leaves.length; index++, at = 0) {
      const leaf = this.#leaves[index]!;
      for (; at < leaf.keys.length; at++) {
        const key = leaf.keys[at]!;
        if (key === after) continue;
        if (!key.startsWith(prefix)) {
          if (key > prefix) return;
          continue;
        }
        if (visit(leaf.values[at]!, key) === false) return;
      }
    }
  }
}
