/** Versions that the platform reports of itself. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './paths.ts';

/** The Kubernetes API that is served. */
export const kubernetesVersion = 'v1.37.2';

export function tiphysVersion(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}
