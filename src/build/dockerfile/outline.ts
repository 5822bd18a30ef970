/**
 * What a build of a target can be given: its arguments, secrets and agents, and those of the stages that it stands on.
 * Source: BuildKit, request `frontend.outline`.
 */
import { descriptionOf } from './parser.ts';
import type { Instruction, Stage } from './parser.ts';

export interface ArgInfo {
  name: string;
  value: string;
  description: string;
  at: Instruction;
  /** Arguments that its default stands on. */
  needs: ReadonlySet<string>;
}

export interface MountInfo {
  isRequired: boolean;
  at: Instruction;
}

export interface StageOutline {
  /** All that are known in the stage. */
  args: Map<string, ArgInfo>;
  used: Set<string>;
  secrets: Map<string, MountInfo>;
  agents: Map<string, MountInfo>;
}

export interface Outline {
  name: string;
  description: string;
  args: ArgInfo[];
  secrets: (MountInfo & { name: string })[];
  agents: (MountInfo & { name: string })[];
}

export function describeArg(name: string, value: string | undefined, at: Instruction): ArgInfo {
  return { name, value: value ?? '', description: descriptionOf(at.comments, name), at, needs: new Set() };
}

function usedArgs({ args, used }: StageOutline): ArgInfo[] {
  const all = new Set<string>();
  const visit = (name: string): void => {
    if (all.has(name)) return;
    all.add(name);
    for (const each of args.get(name)?.needs ?? []) visit(each);
  };
  for (const name of used) visit(name);
  return [...all].flatMap((name) => args.get(name) ?? []);
}

/** `outlineOf`: of a stage that is converted; `dependencies`: what it stands on. Each name counts once, the nearest. */
export function collectOutline(
  target: Stage,
  outlineOf: (stage: Stage) => StageOutline,
  dependencies: (stage: Stage) => Stage[],
): Outline {
  const [args, secrets, agents] = [
    new Map<string, ArgInfo>(),
    new Map<string, MountInfo>(),
    new Map<string, MountInfo>(),
  ];
  const seen = new Set<Stage>();
  const visit = (stage: Stage): void => {
    if (seen.has(stage)) return;
    seen.add(stage);
    const outline = outlineOf(stage);
    for (const info of usedArgs(outline)) if (!args.has(info.name)) args.set(info.name, info);
    for (const [name, info] of outline.secrets) if (!secrets.has(name)) secrets.set(name, info);
    for (const [name, info] of outline.agents) if (!agents.has(name)) agents.set(name, info);
    for (const other of dependencies(stage)) visit(other);
  };
  visit(target);
  const byLine = (a: { at: Instruction }, b: { at: Instruction }): number => a.at.line - b.at.line;
  const named = (all: Map<string, MountInfo>): (MountInfo & { name: string })[] =>
    [...all].map(([name, info]) => ({ name, ...info })).sort(byLine);
  return {
    name: target.name ?? '',
    description: descriptionOf(target.from.comments, target.name ?? ''),
    args: [...args.values()].sort(byLine),
    secrets: named(secrets),
    agents: named(agents),
  };
}
