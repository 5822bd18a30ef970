/**
 * No file imports itself by way of others. With code a circle runs half-made modules; with types alone it still
 * means that neither can be read, or changed, without the other: a plug-in should not see the chain that runs it.
 */
import { test } from 'node:test';
import { assertOnlyKnown, fileOf, importsOf, sourcesOf } from './sources.ts';

type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** Strongly connected components of more than one file (Tarjan), each as its sorted files. */
function circlesOf(graph: Graph): string[] {
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[] = [];
  const visit = (file: string): void => {
    const place = order.size;
    order.set(file, place);
    low.set(file, place);
    stack.push(file);
    for (const next of graph.get(file) ?? []) {
      if (!order.has(next)) visit(next);
      if (stack.includes(next)) low.set(file, Math.min(low.get(file)!, low.get(next)!));
    }
    if (low.get(file) !== place) return;
    const circle = stack.splice(stack.indexOf(file));
    if (circle.length > 1) found.push(circle.toSorted().join(' '));
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}

function graphOf(take: (isType: boolean) => boolean): Graph {
  const sources = sourcesOf('src');
  const paths = new Set(sources.map(({ path }) => path));
  return new Map(
    sources.map((source) => [
      source.path,
      new Set(
        importsOf(source)
          .filter(({ isType }) => take(isType))
          .map(({ specifier }) => fileOf(source, specifier))
          .filter((file) => file !== undefined && file !== source.path && paths.has(file)) as string[],
      ),
    ]),
  );
}

test('no circle of files at run time', () => {
  assertOnlyKnown(circlesOf(graphOf((isType) => !isType)), new Set(), 'move what both need to a file of its own');
});

test('no circle of files by types', () => {
  assertOnlyKnown(circlesOf(graphOf(() => true)), new Set(), 'move the types that both need to a file of their own');
});
