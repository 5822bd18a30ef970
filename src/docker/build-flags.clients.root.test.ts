/**
 * Every flag of the installed docker client's classic `build` leads to a parameter that the engine knows, or stays with
 * the client.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { buildParameters } from './build-request.ts';

/** Flag → parameter of the API; `client`: nothing of it is sent. */
const flags: Record<string, string> = {
  'add-host': 'extrahosts',
  'build-arg': 'buildargs',
  'cache-from': 'cachefrom',
  'cgroup-parent': 'cgroupparent',
  compress: 'client',
  'cpu-period': 'cpuperiod',
  'cpu-quota': 'cpuquota',
  'cpu-shares': 'cpushares',
  'cpuset-cpus': 'cpusetcpus',
  'cpuset-mems': 'cpusetmems',
  'disable-content-trust': 'client',
  file: 'dockerfile',
  'force-rm': 'forcerm',
  iidfile: 'client',
  isolation: 'isolation',
  label: 'labels',
  memory: 'memory',
  'memory-swap': 'memswap',
  network: 'networkmode',
  'no-cache': 'nocache',
  platform: 'platform',
  pull: 'pull',
  quiet: 'q',
  rm: 'rm',
  'security-opt': 'securityopt',
  'shm-size': 'shmsize',
  squash: 'squash',
  tag: 't',
  target: 'target',
  ulimit: 'ulimits',
};

test("no flag of the client's build is unknown", () => {
  const help = execFileSync('docker', ['build', '--help'], {
    env: { ...process.env, DOCKER_BUILDKIT: '0', DOCKER_HOST: 'unix:///nonexistent' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const shown = [...help.matchAll(/^ +(?:-\w, )?--([a-z-]+)/gm)]
    .map((match) => match[1]!)
    .filter((name) => name !== 'help');
  assert.ok(shown.length > 20, help);
  assert.deepEqual(
    shown.filter(
      (name) => flags[name] === undefined || (flags[name] !== 'client' && buildParameters[flags[name]] === undefined),
    ),
    [],
  );
});
