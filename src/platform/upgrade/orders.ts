/**
 * What `tiphys upgrade` tells a machine, and what the machine answers: annotations of its Node. Orders are written by
 * an administrator, as all of a Node that is not the kubelet's; the program itself comes from a server, and is taken
 * only where it has the digest that the order names.
 */
import { fieldOf, textOf } from '#base/unknown.ts';
import { loadInstance } from '../instance.ts';
import { packageRoot, type Paths } from '../paths.ts';
import { keptId, kubernetesVersion, programIdPattern, tiphysVersion } from '../version.ts';
import { loadRecord, readFailed, type Failed } from './record.ts';

export interface Order {
  /** Of the program. */
  id: string;
  /** Another one for each run of the command: what failed is tried again then. */
  attempt: string;
  /** What ran before is not kept, and newer formats are written. */
  isFinal: boolean;
}

export interface ProgramState {
  /** Empty: the machine was never upgraded. */
  id: string;
  version: string;
  kubernetesVersion: string;
  /** Formats up to this one are written; 0: those of before there were levels. */
  level: number;
  previous?: string;
  /** Of the last order that was followed, to its end or to a failure. */
  attempt?: string;
  failed?: Failed;
}

function parse(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    // As if nothing was said: the next look finds what is.
    return undefined;
  }
}

export function readOrder(text: string | undefined): Order | undefined {
  const value = parse(text);
  const [id, attempt = ''] = [textOf(value, 'id'), textOf(value, 'attempt')];
  if (id === undefined || !programIdPattern.test(id)) return undefined;
  return { id, attempt, isFinal: fieldOf(value, 'isFinal') === true };
}

export function readState(text: string | undefined): ProgramState | undefined {
  const value = parse(text);
  const [id, previous, attempt] = [textOf(value, 'id'), textOf(value, 'previous'), textOf(value, 'attempt')];
  const failed = readFailed(fieldOf(value, 'failed'));
  if (id === undefined) return undefined;
  return {
    id,
    version: textOf(value, 'version') ?? '',
    kubernetesVersion: textOf(value, 'kubernetesVersion') ?? '',
    level: Number(fieldOf(value, 'level') ?? 0),
    ...(previous === undefined ? {} : { previous }),
    ...(attempt === undefined ? {} : { attempt }),
    ...(failed === undefined ? {} : { failed }),
  };
}

/** Of this machine, as the process that asks is one of its programs. */
export function ownState(paths: Paths): ProgramState {
  const { previous, attempt, failed, isBegun } = loadRecord(paths) ?? {};
  return {
    // Who is amid it is not there yet.
    id: isBegun === true ? '' : (keptId(packageRoot) ?? ''),
    version: tiphysVersion(),
    kubernetesVersion,
    level: loadInstance(paths)?.level ?? 0,
    ...(previous === undefined ? {} : { previous }),
    ...(attempt === undefined ? {} : { attempt }),
    ...(failed === undefined ? {} : { failed }),
  };
}

/** Whether the machine is still to follow it. One that was followed says nothing of what a user does there later. */
export function isOpen({ attempt }: Order, state: ProgramState): boolean {
  return attempt !== state.attempt;
}

/** Whether the machine has done what it was told. */
export function isDone({ id, isFinal }: Order, state: ProgramState, level: number): boolean {
  return state.id === id && (!isFinal || (state.previous === undefined && state.level >= level));
}

/** The reason, where it has tried that and failed. */
export function failureOf({ id, attempt }: Order, { failed }: ProgramState): string | undefined {
  return failed !== undefined && failed.id === id && failed.attempt === attempt ? failed.reason : undefined;
}
