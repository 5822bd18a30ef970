/** Versions that the platform reports of itself. */
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { packageRoot } from './paths.ts';

/** The Kubernetes API that is served. */
export const kubernetesVersion = 'v1.37.2';

export function tiphysVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}

export const programIdPattern = /^[0-9a-f]{16}$/;

/**
 * The id of the kept program that lies there (`upgrade/program.ts`); undefined where it is a checkout, or a package.
 */
export function keptId(root: string): string | undefined {
  const id = basename(root);
  return basename(dirname(root)) === 'programs' && programIdPattern.test(id) ? id : undefined;
}

/** With the id of the program where a machine keeps it: two of one version may be different ones. */
export function programVersion(): string {
  const id = keptId(packageRoot);
  return id === undefined ? tiphysVersion() : `${tiphysVersion()}+${id}`;
}
