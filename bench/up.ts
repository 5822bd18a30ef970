/**
 * From exec of `tiphys up` with an empty home to a Pod, made by kubectl, that has run and resolved a Service; and the
 * same on kept data after `down`. Seconds of the clock and of the processor: everything that runs meanwhile, docker
 * load and kubectl included, except inside of containers.
 */
import { join } from 'node:path';
import { command, find, median, Meter } from './harness.ts';
import type { Bench, Result, Run, Sample } from './harness.ts';
import { launcher, requireTools, startTiphys, Tiphys, tiphysVersion } from './tiphys.ts';

const defaultRounds = 5;

export const up: Bench = { name: 'up', about: 'from an empty home to a Pod that runs and resolves a Service', run };

const podOf = (name: string): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'main',
          image: 'busybox',
          imagePullPolicy: 'IfNotPresent',
          command: ['sh', '-c', 'until nslookup kubernetes.default.svc.cluster.local; do :; done'],
        },
      ],
    },
  });

async function run(current: Run): Promise<Result> {
  requireTools('docker', 'kubectl');
  const { tiphys: maker, busybox } = await startTiphys(current, 'maker');
  await maker.purge();
  const names = {
    cold: 'empty home',
    coldUp: '  of that, `up` alone',
    coldCpu: '  processor',
    kept: 'kept data',
    keptUp: '  of that, `up` alone ',
    keptCpu: '  processor ',
  };
  const samples = Object.values(names).map((name): Sample => ({
    name,
    unit: name.includes('processor') ? 'CPU s' : 's',
    values: [],
  }));
  const add = (name: string, value: number): void => {
    samples.find((sample) => sample.name === name)!.values.push(value);
  };
  for (let round = 0; round < (current.rounds ?? defaultRounds); round++) {
    const tiphys = new Tiphys(join(current.scratch, `home-${round}`));
    current.defer(() => tiphys.purge());
    const cold = await measure(`tiphys-bench-up-${process.pid}-${round}a`, tiphys, `cold-${round}`, busybox);
    add(names.cold, cold.seconds);
    add(names.coldUp, cold.upSeconds);
    add(names.coldCpu, cold.cpu);
    await command([launcher, 'down'], { env: tiphys.env });
    const kept = await measure(`tiphys-bench-up-${process.pid}-${round}b`, tiphys, `kept-${round}`, undefined);
    add(names.kept, kept.seconds);
    add(names.keptUp, kept.upSeconds);
    add(names.keptCpu, kept.cpu);
    await tiphys.purge();
    current.say(
      `round ${round + 1}: empty ${cold.seconds.toFixed(2)} s, ${cold.cpu.toFixed(2)} CPU s; kept ${kept.seconds.toFixed(2)} s, ${kept.cpu.toFixed(2)} CPU s`,
    );
  }
  const middle = (name: string): number => median(samples.find((sample) => sample.name === name)!.values);
  const kubectl = JSON.parse((await command([find('kubectl')!, 'version', '--client', '-o', 'json'])).stdout) as {
    clientVersion: { gitVersion: string };
  };
  return {
    bench: up.name,
    about: up.about,
    samples,
    skipped: [],
    versions: { Tiphys: tiphysVersion(), kubectl: kubectl.clientVersion.gitVersion },
    goals: [
      { text: 'empty home, seconds', atMost: 3, value: middle(names.cold) },
      { text: 'empty home, CPU seconds', atMost: 3, value: middle(names.coldCpu) },
      { text: 'kept data, seconds', atMost: 1.5, value: middle(names.kept) },
    ],
  };
}

async function measure(
  group: string,
  tiphys: Tiphys,
  pod: string,
  image: string | undefined,
): Promise<{ seconds: number; upSeconds: number; cpu: number }> {
  const meter = new Meter(group);
  const inside = (words: string[], input?: string) =>
    command(meter.wrap(words), { env: tiphys.env, ...(input === undefined ? {} : { input }) });
  try {
    const begun = performance.now();
    const started = await inside([launcher, 'up']);
    await Promise.all([
      image === undefined ? undefined : inside(['docker', 'load', '-q', '-i', image]),
      inside(['kubectl', 'create', '--validate=false', '-f', '-'], podOf(pod)),
    ]);
    await inside(['kubectl', 'wait', `pod/${pod}`, '--for=jsonpath={.status.phase}=Succeeded', '--timeout=60s']);
    const seconds = (performance.now() - begun) / 1000;
    return { seconds, upSeconds: started.ms / 1000, cpu: meter.seconds() };
  } finally {
    meter.close();
  }
}
