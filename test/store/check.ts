/** What must hold in a store after its process died: everything acknowledged is there, and no half transaction. */
import { openPlace } from './place.ts';

export interface Acknowledged {
  counts: Map<number, number>;
  revision: number;
}

/** The acknowledgements in the writer's output; a line cut short by the kill does not count. */
export function parseAcknowledged(
  output: string,
  into: Acknowledged = { counts: new Map(), revision: 0 },
): Acknowledged {
  const lines = output.split('\n');
  lines.pop();
  for (const line of lines) {
    const [writer = 0, n = 0, revision = 0] = line.split(' ').map(Number);
    into.counts.set(writer, Math.max(into.counts.get(writer) ?? 0, n));
    into.revision = Math.max(into.revision, revision);
  }
  return into;
}

/** What is wrong, in words; empty when all is well. */
export async function checkStore(place: string, acknowledged: Acknowledged): Promise<string[]> {
  const problems: string[] = [];
  await using store = await openPlace(place);
  if (store.currentRevision() < acknowledged.revision)
    problems.push(`revision ${store.currentRevision()} is below the acknowledged ${acknowledged.revision}`);
  const counts = new Map(
    (await store.list('/count/')).values.map((v) => [
      Number(v.key.slice(7)),
      { n: Number(Buffer.from(v.value).toString()), revision: v.modRevision },
    ]),
  );
  for (const [writer, n] of acknowledged.counts)
    if ((counts.get(writer)?.n ?? 0) < n)
      problems.push(`writer ${writer}: ${n} was acknowledged, ${counts.get(writer)?.n ?? 0} is there`);
  for (const [writer, { n, revision }] of counts) {
    const values = (await store.list(`/w/${writer}/`)).values;
    if (values.length !== n) problems.push(`writer ${writer}: counts ${n}, has ${values.length} keys`);
    const last = values.find((v) => v.key === `/w/${writer}/${n}`);
    if (last?.modRevision !== revision)
      problems.push(`writer ${writer}: the last key and its count are not of one transaction`);
    if (last !== undefined && (last.value.length !== 500 + (n % 7) * 300 || last.value.some((b) => b !== n % 256)))
      problems.push(`writer ${writer}: key ${n} holds other bytes`);
  }
  return problems;
}
