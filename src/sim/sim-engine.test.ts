/** The simulated engine keeps the contract of engines, as far as a kubelet uses it. */
import type { Pod } from '#api/core.v1.ts';
import type { SandboxSpec } from '#engine/engine.ts';
import { type EngineBench, runEngineSuite } from '#engine/engine.suite.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid } from '#kubelet/pod-labels.ts';
import { SimClock, SimRandom } from '#os/clock.sim.ts';
import { NodeImages } from './node-images.ts';
import { Scripts } from './pod-script.ts';
import { SimEngine } from './sim-engine.ts';
import { SimImages } from './sim-images.ts';

const clock = new SimClock(Date.parse('2026-01-01T00:00:00Z'));
const common = {
  clock,
  random: new SimRandom(1),
  scripts: new Scripts([
    {
      script: ({ container }) =>
        container === 'ends'
          ? { exitAfter: '1s', exitCode: 3, logs: ['hello'] }
          : { logs: ['ready'], ...(container === 'deaf' ? { stopAfter: '1h' } : {}) },
    },
  ]),
};
const engine: SimEngine = new SimEngine({
  ...common,
  node: clock,
  images: new SimImages({
    ...common,
    images: new NodeImages([]),
    pullDelayMs: () => 0,
    diskProblem: () => undefined,
    pods: () => engine.pods,
  }),
  memoryBytes: 1 << 30,
  skewMs: 0,
  hostIp: '172.16.0.1',
  allocateIp: (isTaken) => ['10.0.0.1', '10.0.0.2'].find((ip) => !isTaken(ip))!,
  starved: () => undefined,
});

/** As the node is handed it before its kubelet makes anything of it. */
function podOf(uid: string): Pod {
  const containers = ['serves', 'deaf', 'ends'].map((name) => ({ name, image: 'app:1' }));
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: uid, namespace: 'default', uid },
    spec: { containers },
  } as unknown as Pod;
}

const bench: EngineBench = {
  engine: () => engine,
  claims: ['Pod'],
  command: [],
  podLabels: (uid) => ({ [labelPodUid]: uid }),
  sandbox(id): SandboxSpec {
    engine.see(podOf(id));
    return { id, name: `default/${id}`, hostname: id, labels: bench.podLabels(id), network: 'pod', cgroupParent: '' };
  },
  spec: (_behaviour, { name, pod = '' }) => ({
    name,
    owner: 'kubelet',
    image: 'app:1',
    imageId: 'i',
    env: [],
    tty: false,
    openStdin: false,
    stdinOnce: false,
    labels: { [labelPodUid]: pod, [labelPodName]: pod, [labelPodNamespace]: 'default', [labelContainerName]: name },
    mounts: [],
    resources: {},
    security: {},
    network: { type: 'sandbox', sandboxId: pod },
  }),
  async pass(work) {
    let isDone = false;
    const end = (): void => {
      isDone = true;
    };
    work.then(end, end);
    while (!isDone) await clock.advance(100);
    return work;
  },
};

runEngineSuite(bench);
