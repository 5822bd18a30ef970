/**
 * What a graph reads of a client's directories, so that the client sends that alone. A directory of which something
 * else than copies and mounts of paths is made counts as a whole.
 *
 * Source: BuildKit's Dockerfile front end, which names the sources of COPY, ADD and mounts as paths to follow.
 */
import { cleanContextPath } from '../context.ts';
import { hasWildcard } from '../patterns.ts';
import { makeVertex } from './codec.ts';
import { listVertices } from './vertex.ts';
import type { Edge, FileAction, SourceOp, UserRef, Vertex } from './vertex.ts';

/** undefined: all of it. */
function pathsOfAction(action: FileAction, input: number): string[] | undefined {
  const names = (ref: UserRef | undefined): boolean => ref !== undefined && 'name' in ref && ref.input === input;
  if (action.input === input || names(action.owner?.user) || names(action.owner?.group)) return undefined;
  if (action.kind !== 'copy' || action.from !== input) return [];
  const { source, include } = action;
  return include.length === 0 ? [source] : include.map((pattern) => `${source}/${pattern}`);
}

/** What a vertex reads of one of its inputs; undefined: all of it. */
function pathsRead({ op }: Vertex, input: number): string[] | undefined {
  const parts =
    op.kind === 'file'
      ? op.actions.map((action) => pathsOfAction(action, input))
      : op.kind === 'exec'
        ? op.mounts.map(({ input: mounted, selector, output }) => {
            if (mounted !== input) return [];
            // A client would take the name of a mount for a pattern.
            return output !== undefined || hasWildcard(selector) ? undefined : [selector];
          })
        : [undefined];
  return parts.includes(undefined) ? undefined : parts.flatMap((part) => part ?? []);
}

/** Paths below the directories of these vertices that the edges read, by digest; undefined: all of it. */
function readPaths(edges: readonly Edge[], digests: ReadonlySet<string>): Map<string, Set<string> | undefined> {
  const found = new Map<string, Set<string> | undefined>();
  const add = (digest: string, paths: string[] | undefined): void => {
    const before = found.has(digest) ? found.get(digest) : new Set<string>();
    const clean = paths?.map(cleanContextPath);
    found.set(
      digest,
      clean === undefined || before === undefined || clean.includes('') ? undefined : new Set([...before, ...clean]),
    );
  };
  for (const edge of edges) {
    if (digests.has(edge.vertex.digest)) add(edge.vertex.digest, undefined);
    for (const vertex of listVertices(edge.vertex))
      for (const [index, input] of vertex.inputs.entries())
        if (digests.has(input.vertex.digest)) add(input.vertex.digest, pathsRead(vertex, index));
  }
  return found;
}

/**
 * The same graphs, reading of directories of the client what all of them together read. `locals`: digests of the
 * vertices that are those directories, without patterns of their own.
 */
export function narrowLocals(
  given: readonly (Edge | undefined)[],
  locals: ReadonlySet<string>,
): (edge: Edge | undefined) => Edge | undefined {
  const edges = given.filter((edge) => edge !== undefined);
  const vertices = new Map(edges.flatMap((edge) => listVertices(edge.vertex)).map((each) => [each.digest, each]));
  const made = new Map<string, Vertex>();
  for (const [digest, paths] of readPaths(edges, locals)) {
    const vertex = vertices.get(digest);
    if (paths === undefined || vertex?.op.kind !== 'source') continue;
    const attributes = { ...vertex.op.attributes, 'local.followpaths': JSON.stringify([...paths].sort()) };
    const op: SourceOp = { ...vertex.op, attributes };
    made.set(digest, makeVertex(op, [], vertex));
  }
  const edgeOf = ({ vertex, output }: Edge): Edge => ({ vertex: made.get(vertex.digest) ?? vertex, output });
  for (const edge of edges)
    for (const vertex of listVertices(edge.vertex))
      if (!made.has(vertex.digest) && vertex.inputs.some((input) => made.has(input.vertex.digest)))
        made.set(vertex.digest, makeVertex(vertex.op, vertex.inputs.map(edgeOf), vertex));
  return (edge) => (edge === undefined ? undefined : edgeOf(edge));
}
