/**
 * Which nodes this machine runs. A node that runs here has a note in its own data directory, `nodes/N/node.json`; what
 * nodes the cluster has, its Node objects say. A node that the user takes away loses its note and has another one,
 * `leaving.json`, until nothing of it runs and the cluster has forgotten it (`leaving-nodes.ts`). It keeps its data
 * until `down --purge`.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';

const noteOf = (paths: Paths, number: number): string => join(files.nodeData(paths, number), 'node.json');
const leavingOf = (paths: Paths, number: number): string => join(files.nodeData(paths, number), 'leaving.json');
const note = '{"format":1}\n';

/** Numbers of the nodes that run here, in order. */
export function localNodes(paths: Paths): number[] {
  return nodesWithData(paths).filter((number) => readIfExists(noteOf(paths, number)) !== undefined);
}

/** Also of those that ran here once. */
export function nodesWithData(paths: Paths): number[] {
  return listDirectory(join(paths.data, 'nodes'))
    .map(Number)
    .filter((number) => Number.isInteger(number) && number > 0)
    .sort((a, b) => a - b);
}

/** Nodes that began to leave; also one that is to stay again by now. */
export function leavingNodes(paths: Paths): number[] {
  return nodesWithData(paths).filter((number) => readIfExists(leavingOf(paths, number)) !== undefined);
}

export function forgetLeaving(paths: Paths, number: number): void {
  rmSync(leavingOf(paths, number), { force: true });
}

/** Nodes 1 to `count` run here from now on; others leave. */
export function setLocalNodes(paths: Paths, count: number): void {
  for (const number of localNodes(paths)) {
    if (number <= count) continue;
    writeFileAtomic(leavingOf(paths, number), note, { sync: true });
    rmSync(noteOf(paths, number));
  }
  for (let number = 1; number <= count; number++) {
    if (readIfExists(noteOf(paths, number)) !== undefined) continue;
    makeDirectory(files.nodeData(paths, number), privateMode);
    writeFileAtomic(noteOf(paths, number), note, { sync: true });
  }
}
