/**
 * The programs that the engine stands on, as `docker version` and `docker info` name them: where they are and what they
 * say of themselves. Asked once.
 */
import type { DockerParts } from './context.ts';

export interface Program {
  name: string;
  path: string;
  version: string;
  commit: string;
}

const asked = new WeakMap<object, Promise<Program[]>>();

/** The OCI runtime, the monitor and the init program, those that are here. */
export function programsOf(parts: DockerParts): Promise<Program[]> {
  const { context } = parts.engine;
  let known = asked.get(context);
  if (known === undefined) {
    known = Promise.all([context.runtime.name, 'conmon', 'tini', 'catatonit'].map((name) => ask(parts, name))).then(
      (all) => all.filter((one) => one !== undefined),
    );
    asked.set(context, known);
  }
  return known;
}

async function ask(parts: DockerParts, name: string): Promise<Program | undefined> {
  const { processes } = parts.engine.context.os;
  const path = processes.find(name) ?? (name === 'tini' ? processes.find('docker-init') : undefined);
  if (path === undefined) return undefined;
  const said = await processes.run(path, ['--version']).then(
    (output) => `${output.stdout}\n${output.stderr}`,
    () => '',
  );
  const version = /(\d+\.\d+(?:\.\d+)?(?:[-+~][\w.+~-]*)?)/.exec(said)?.[1] ?? '';
  const commit = /commit:?\s+([0-9a-f]{7,40})\b/i.exec(said)?.[1] ?? / git\.([0-9a-f]{7,40})/.exec(said)?.[1] ?? '';
  return { name, path, version, commit };
}
