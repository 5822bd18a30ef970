/** A Tiphys of the benchmark's own: in a home in the scratch directory, gone at the end of the run. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '#platform/paths.ts';
import { tiphysVersion } from '#platform/version.ts';
import { command, find } from './harness.ts';
import type { Run } from './harness.ts';

export const launcher = join(packageRoot, 'tiphys');

export class Tiphys {
  readonly home: string;
  readonly env: Record<string, string>;

  /** Further words of `tiphys up`. */
  readonly words: readonly string[];

  constructor(home: string, words: readonly string[] = []) {
    this.home = home;
    this.words = words;
    this.env = {
      TIPHYS_HOME: home,
      DOCKER_HOST: `unix://${home}/run/docker.sock`,
      KUBECONFIG: `${home}/run/admin.conf`,
      DOCKER_CONTEXT: '',
    };
  }

  get kubeconfig(): string {
    return `${this.home}/run/admin.conf`;
  }

  async up(): Promise<void> {
    await command([launcher, 'up', ...this.words], { env: this.env });
  }
  async purge(): Promise<void> {
    if (existsSync(this.home)) await command([launcher, 'down', '--purge'], { env: this.env });
  }
  docker(...words: string[]): string[] {
    return ['docker', ...words];
  }

  /** The processes of one part, `server` or `node-1`, without their supervisor. */
  pid(part: string): number {
    return Number(readFileSync(`${this.home}/run/processes/${part}.pid`, 'utf8'));
  }
}

/** Brings one up with busybox in it. The image is Tiphys' own, and is what the peers get as well. */
export async function startTiphys(run: Run, name = 'tiphys'): Promise<{ tiphys: Tiphys; busybox: string }> {
  const tiphys = new Tiphys(join(run.scratch, name));
  run.defer(() => tiphys.purge());
  run.say('starting Tiphys');
  await tiphys.up();
  return { tiphys, busybox: await saveBusybox(run, tiphys) };
}

export async function saveBusybox(run: Run, tiphys: Pick<Tiphys, 'env'>): Promise<string> {
  const archive = join(run.scratch, 'busybox.tar');
  if (!existsSync(archive)) {
    await command(['docker', 'pull', '-q', 'busybox'], { env: tiphys.env });
    await command(['docker', 'save', '-o', archive, 'busybox'], { env: tiphys.env });
  } else await command(['docker', 'load', '-q', '-i', archive], { env: tiphys.env });
  return archive;
}

/** The figures are about programs that these drive. */
export function requireTools(...names: string[]): void {
  const missing = names.filter((name) => find(name) === undefined);
  if (missing.length > 0) throw new Error(`not installed: ${missing.join(', ')}`);
}

export { tiphysVersion };
