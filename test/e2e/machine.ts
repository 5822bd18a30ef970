/** A platform of a test's own: a home below /var/tmp, the real launcher, and a look at what is left on the machine afterwards. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

export interface Output { code: number; stdout: string; stderr: string }

export function run(file: string, args: string[], environment: Record<string, string> = {}, options: { input?: string; timeoutMs?: number } = {}): Promise<Output> {
  return new Promise((done, reject) => {
    const child = spawn(file, args, { cwd: root, env: { ...process.env, ...environment }, stdio: ['pipe', 'pipe', 'pipe'], timeout: options.timeoutMs ?? 120_000 });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => { stdout += chunk.toString(); });
    child.stderr.on('data', (chunk: Buffer) => { stderr += chunk.toString(); });
    child.on('error', reject);
    child.on('close', (code) => done({ code: code ?? -1, stdout, stderr }));
    child.stdin.end(options.input ?? '');
  });
}

export interface Machine extends AsyncDisposable {
  home: string;
  environment: Record<string, string>;
  tiphys(args: string[], timeoutMs?: number): Promise<Output>;
  docker(...args: string[]): Promise<Output>;
  kubectl(...args: string[]): Promise<Output>;
  /** Everything of this instance that is in the kernel; empty after `down`. */
  leftovers(): string[];
}

/** Links, tables, mounts, cgroups and processes that carry the instance's id or home. */
function leftoversOf(home: string, id: string): string[] {
  const found: string[] = [];
  for (const line of readFileSync('/proc/net/dev', 'utf8').split('\n')) if (line.trim().startsWith(`tph${id}`)) found.push(`link ${line.trim().split(':')[0]}`);
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) if (line.includes(`${home}/`)) found.push(`mount ${line.split(' ')[1]}`);
  for (const top of ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup', { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join('/sys/fs/cgroup', entry.name))]) {
    try { for (const name of readdirSync(top)) if (name.startsWith(`tiphys_${id}`)) found.push(`cgroup ${top}/${name}`); } catch { /* gone meanwhile */ }
  }
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && name !== String(process.pid))) {
    try { const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '); if (words.includes(`${home}/`)) found.push(`process ${words.trim()}`); } catch { /* gone meanwhile */ }
  }
  return found;
}

/** Starts nothing yet; disposing takes everything down and removes the home. */
export function createMachine(): Machine {
  const home = mkdtempSync('/var/tmp/tiphys-e2e-');
  const environment = { TIPHYS_HOME: home, HOME: join(home, 'user'), DOCKER_BUILDKIT: '0', DOCKER_HOST: `unix://${home}/run/docker.sock`, KUBECONFIG: `${home}/run/admin.conf` };
  let id = '';
  const tiphys = async (args: string[], timeoutMs?: number): Promise<Output> => {
    const output = await run('./tiphys', args, environment, { ...(timeoutMs === undefined ? {} : { timeoutMs }) });
    try { id = (JSON.parse(readFileSync(join(home, 'data/instance.json'), 'utf8')) as { id: string }).id; } catch { /* not made, or purged */ }
    return output;
  };
  return {
    home, environment, tiphys,
    docker: (...args) => run('docker', args, environment),
    kubectl: (...args) => run('kubectl', args, environment),
    leftovers: () => leftoversOf(home, id === '' ? 'none' : id),
    async [Symbol.asyncDispose]() {
      await tiphys(['down', '--purge']);
      rmSync(home, { recursive: true, force: true });
    },
  };
}
