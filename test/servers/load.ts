/** What goes on while something happens to a cluster of several servers, and what is found of it afterwards. */
import assert from 'node:assert/strict';
import type { FastMachine } from '../e2e/fast-machines.ts';

export interface Writer {
  name: string;
  /** Answers what was acknowledged, and for how long at most nothing was, in seconds. */
  stop(): Promise<{ names: string[]; gap: number }>;
}

/** Writes until it is stopped. What is acknowledged is told outside of the machine, whose disk may lose it. */
export function startWriter(machine: FastMachine, name = machine.name): Writer {
  const loop = `i=0; while ! [ -e /tmp/stop-${name} ]; do i=$((i+1)); kubectl --request-timeout=4s create configmap ${name}-$i >/dev/null 2>&1 && echo ${name}-$i $(date +%s.%N); done`;
  const ended = machine.run('/bin/sh', ['-c', loop], { timeoutMs: 1_200_000 });
  return {
    name,
    async stop() {
      await machine.run('touch', [`/tmp/stop-${name}`]);
      const lines = (await ended).stdout
        .trim()
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.split(' '));
      await machine.run('rm', ['-f', `/tmp/stop-${name}`]);
      const times = lines.map(([, at]) => Number(at));
      const gaps = times.slice(1).map((at, index) => at - times[index]!);
      return { names: lines.map(([each = '']) => each), gap: Math.max(0, ...gaps) };
    },
  };
}

/** All that was acknowledged is there. */
export async function stopWriters(writers: readonly Writer[], machine: FastMachine): Promise<void> {
  for (const writer of writers) {
    const { names, gap } = await writer.stop();
    assert.notEqual(names.length, 0, `${writer.name} wrote nothing`);
    const there = new Set((await machine.ok('kubectl', 'get', 'configmaps', '-o', 'name')).trim().split('\n'));
    assert.deepEqual(
      names.filter((name) => !there.has(`configmap/${name}`)),
      [],
      'acknowledged and lost',
    );
    console.log(
      `# ${names.length} writes by ${writer.name}, none lost, none acknowledged for ${gap.toFixed(1)} s at most`,
    );
  }
}

/** Builds `app:1`: a busybox. */
export async function buildImage(machine: FastMachine): Promise<void> {
  await machine.ok(
    '/bin/sh',
    '-ec',
    `mkdir -p /tmp/image/bin && cd /tmp/image && cp /bin/busybox bin/ && ln -sf busybox bin/sh
    printf 'FROM scratch\\nCOPY bin /bin\\nENV PATH=/bin\\n' >Dockerfile && docker build -q -t app:1 .`,
  );
}

const pod = (name: string, node: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}}
spec:
  nodeSelector: {kubernetes.io/hostname: ${node}}
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: "app:1", imagePullPolicy: IfNotPresent, command: [busybox, sh, -c, "echo begun; exec busybox sleep 100000"]}
`;

export async function applyText(machine: FastMachine, text: string): Promise<void> {
  const output = await machine.run('kubectl', ['apply', '-f', '-'], { input: text });
  assert.equal(output.code, 0, output.stderr);
}

export async function runsPod(machine: FastMachine, name: string, node: string): Promise<void> {
  await applyText(machine, pod(name, node));
  await machine.until(`Pod ${name}`, `kubectl get pod ${name} -o jsonpath={.status.phase}`, /Running/, 120_000);
}

/** Of each Pod: when its containers began, and how often. */
export const containers = (machine: FastMachine): Promise<string> =>
  machine.ok(
    'kubectl',
    'get',
    'pods',
    '-o',
    'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\\n"}{end}',
  );

/**
 * Kills the command (its program first) after longer and longer times, on one server after the other, until it ends
 * before that. Answers how often.
 */
export async function killedOnTheWay(servers: readonly FastMachine[], command: string, stepS: number): Promise<number> {
  for (let kills = 0; ; kills++) {
    const machine = servers[kills % servers.length]!;
    const script = `${command} >/tmp/out 2>&1 & p=$!; ( sleep ${(0.3 + kills * stepS).toFixed(1)}; kill -9 $p ) 2>/dev/null & wait $p; echo $?; cat /tmp/out`;
    const { stdout } = await machine.run('/bin/bash', ['-c', script], { timeoutMs: 300_000 });
    const [code, ...said] = stdout.split('\n');
    if (code === '0') return kills;
    assert.equal(code, '137', said.join('\n'));
  }
}
