/**
 * A binary heap in an array: the least entry, by the caller's order, is at index 0. Where the order is total, so is the
 * sequence of what comes out. No entry is undefined.
 */
export type IsBefore<T> = (a: T, b: T) => boolean;

export function heapPush<T extends NonNullable<unknown>>(heap: T[], entry: T, isBefore: IsBefore<T>): void {
  let at = heap.push(entry) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    const above = heap[parent];
    if (above === undefined || !isBefore(entry, above)) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = entry;
}

/** Takes the least entry out; undefined when there is none. */
export function heapPop<T extends NonNullable<unknown>>(heap: T[], isBefore: IsBefore<T>): T | undefined {
  const top = heap[0];
  const last = heap.pop();
  if (heap.length === 0 || last === undefined) return top;
  let at = 0;
  for (;;) {
    let child = at * 2 + 1;
    let below = heap[child];
    const sibling = heap[child + 1];
    if (below === undefined) break;
    if (sibling !== undefined && isBefore(sibling, below)) {
      below = sibling;
      child++;
    }
    if (!isBefore(below, last)) break;
    heap[at] = below;
    at = child;
  }
  heap[at] = last;
  return top;
}
