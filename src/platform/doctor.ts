/** Looks at the machine without changing it: what Tiphys needs, what it can do without, and what to do about each. */
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { readIfExists } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { portIsFree } from './host.ts';
import { loadInstance } from './instance.ts';
import { partStatus } from './launch.ts';
import { archiveTools, imageTools, tools } from './packages.ts';
import type { Paths } from './paths.ts';

export interface Check {
  name: string;
  state: 'ok' | 'warning' | 'missing';
  detail: string;
  mend?: string;
}

const diskBytesMin = 2e9;

function kernelChecks(): Check[] {
  const version = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  const recent = version[0]! > 5 || (version[0] === 5 && version[1]! >= 10);
  const filesystems = readIfExists('/proc/filesystems') ?? '';
  const checks: Check[] = [
    { name: 'kernel', state: recent ? 'ok' : 'missing', detail: release(), mend: 'Linux 5.10 or newer is needed' },
  ];
  checks.push({
    name: 'overlayfs',
    state: /\boverlay$/m.test(filesystems) || existsSync('/sys/module/overlay') ? 'ok' : 'warning',
    detail: 'layers of images',
    mend: 'modprobe overlay',
  });
  for (const name of ['net', 'ipc', 'uts', 'pid', 'mnt'])
    if (!existsSync(`/proc/self/ns/${name}`))
      checks.push({
        name: `${name} namespace`,
        state: 'missing',
        detail: 'not in this kernel',
        mend: 'use a kernel with namespaces',
      });
  checks.push({
    name: 'seccomp',
    state: /^Seccomp:/m.test(readIfExists('/proc/self/status') ?? '') ? 'ok' : 'warning',
    detail: 'default profile of containers',
    mend: 'a kernel with CONFIG_SECCOMP_FILTER',
  });
  return checks;
}

function cgroupCheck(): Check {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const v2 = mounts.filter((mount) => mount[2] === 'cgroup2');
  const v1 = mounts.filter((mount) => mount[2] === 'cgroup');
  if (v1.length === 0 && v2.length === 0)
    return {
      name: 'cgroups',
      state: 'missing',
      detail: 'none is mounted',
      mend: 'mount -t cgroup2 none /sys/fs/cgroup',
    };
  const names = v1.flatMap((mount) => (mount[3] ?? '').split(','));
  const missing =
    v1.length === 0
      ? ['cpu', 'memory', 'pids'].filter(
          (name) => !(readIfExists('/sys/fs/cgroup/cgroup.controllers') ?? '').includes(name),
        )
      : ['cpu', 'memory', 'pids'].filter((name) => !names.includes(name));
  const kind = v1.length === 0 ? 'version 2' : v2.length > 0 ? 'hybrid' : 'version 1';
  return missing.length === 0
    ? { name: 'cgroups', state: 'ok', detail: kind }
    : {
        name: 'cgroups',
        state: 'warning',
        detail: `${kind}, without ${missing.join(', ')}`,
        mend: `limits of ${missing.join(', ')} will not hold; enable the controllers on the kernel's command line`,
      };
}

function toolChecks(): Check[] {
  const need = tools.map((tool): Check => ({
    name: tool.program,
    state: linuxProcesses.find(tool.program) === undefined ? 'missing' : 'ok',
    detail: tool.why,
    mend: `apt-get install ${tool.package}`,
  }));
  const optional = [
    ...archiveTools,
    ...imageTools,
    { program: 'docker', package: 'docker.io', why: 'your own client; any version from 1.24' },
    { program: 'kubectl', package: 'kubectl', why: 'your own client' },
  ].map((tool): Check => ({
    name: tool.program,
    state: linuxProcesses.find(tool.program) === undefined ? 'warning' : 'ok',
    detail: tool.why,
    ...('debootstrap' === tool.program ? { mend: 'apt-get install debootstrap' } : {}),
  }));
  return [...need, ...optional];
}

function portChecks(paths: Paths): Check[] {
  const instance = loadInstance(paths);
  const wanted: [string, number, string, string][] = [
    ['server', instance?.apiPort ?? 6443, 'API server', '--api-port'],
    ['node-1', instance?.registryPort ?? 5000, 'registry', '--registry-port'],
  ];
  return wanted.map(([part, port, what, option]): Check => {
    if (partStatus(paths, part).pid !== undefined)
      return { name: `port ${port}`, state: 'ok', detail: `${what}: ours` };
    return portIsFree(port, '127.0.0.1')
      ? { name: `port ${port}`, state: 'ok', detail: `${what}: free` }
      : {
          name: `port ${port}`,
          state: 'missing',
          detail: `${what}: in use by another program`,
          mend: `choose another with ${option}`,
        };
  });
}

function existingParent(path: string): string {
  let at = path;
  while (!existsSync(at)) at = at.slice(0, at.lastIndexOf('/')) || '/';
  return at;
}

export async function checkMachine(paths: Paths): Promise<Check[]> {
  const checks: Check[] = [];
  checks.push({
    name: 'root',
    state: process.getuid?.() === 0 ? 'ok' : 'missing',
    detail: process.getuid?.() === 0 ? 'yes' : 'no',
    mend: 'run tiphys up with sudo',
  });
  checks.push(...kernelChecks(), cgroupCheck(), ...toolChecks(), ...portChecks(paths));
  const disk = statfsSync(existingParent(paths.data));
  const free = disk.bavail * disk.bsize;
  checks.push({
    name: 'disk',
    state: free < diskBytesMin ? 'warning' : 'ok',
    detail: `${(free / 1e9).toFixed(1)} GB free for ${paths.data}`,
    mend: `free some space, or move the data with TIPHYS_HOME or --data`,
  });
  const nft =
    linuxProcesses.find('nft') === undefined ? undefined : await linuxProcesses.run('nft', ['list', 'tables']);
  if (nft !== undefined && nft.code !== 0)
    checks.push({
      name: 'nftables',
      state: 'missing',
      detail: nft.stderr.trim(),
      mend: process.getuid?.() === 0 ? 'modprobe nf_tables' : 'needs root',
    });
  const oom = readIfExists('/proc/self/status');
  const caps = BigInt(`0x${/CapEff:\s+([0-9a-f]+)/.exec(oom ?? '')?.[1] ?? '0'}`);
  if ((caps & (1n << 24n)) === 0n)
    checks.push({
      name: 'CAP_SYS_RESOURCE',
      state: 'warning',
      detail: 'missing: limits cannot be raised and oom_score_adj not lowered; both are clamped',
    });
  return checks;
}
