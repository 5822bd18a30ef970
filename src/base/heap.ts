/**
 * A binary heap in an array: the least entry, by the caller's order, is at index 0. Where the order is total, so is the
 * sequence of what comes out.
 */
export type IsBefore<T> = (a: T, b: T) => boolean;

export function heapPush<T>(heap: T[], entry: T, isBefore: IsBefore<T>): void {
  let at = heap.push(entry) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(entry, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = entry;
}

/** Takes the least entry out; undefined when there is none. */
export function heapPop<T>(heap: T[], isBefore: IsBefore<T>): T | undefined {
  const top = heap[0];
  const last = heap.pop();
  if (heap.length === 0 || last === undefined) return top;
  let at = 0;
  for (;;) {
    let child = at * 2 + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
    if (!isBefore(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
  return top;
}
