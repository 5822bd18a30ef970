/**
 * The steps of the demo, in order. Each does one thing a user would do and proves that it happened; its note goes into
 * the closing table.
 */
import type { Pod } from '#api/core.v1.ts';
import { join } from 'node:path';
import { kinds } from '#base/kinds.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Demo } from './demo.ts';
import { surviveKill } from './survive.ts';
import { startLoad, type LoadResult } from './load.ts';

export interface Step {
  title: string;
  run(demo: Demo): Promise<string | void>;
}

const loadRatePerSecond = 240;
const loadConnections = 16;

function isReady(pod: Pod): boolean {
  return (
    pod.metadata.deletionTimestamp === undefined &&
    (pod.status?.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True')
  );
}

async function readyPods(demo: Demo, app: string): Promise<Pod[]> {
  return (await demo.pods(app)).filter(isReady);
}

async function readyPod(demo: Demo, app: string): Promise<Pod> {
  const [pod] = await readyPods(demo, app);
  if (pod === undefined) throw new Error(`no Pod of ${app} is ready`);
  return pod;
}

function expectOk(result: LoadResult, through: string): string {
  if (result.failed > 0)
    throw new Error(
      `${result.failed} of ${result.requests} requests through ${through} failed: ${result.firstFailures.join('; ')}`,
    );
  if (result.perSecond < 200)
    throw new Error(`only ${result.perSecond.toFixed(0)} requests a second through ${through}`);
  return `${through} ${result.requests} requests, ${result.perSecond.toFixed(0)}/s, p99 ${result.p99Ms.toFixed(0)} ms, ${Object.entries(
    result.versions,
  )
    .map(([version, count]) => `${version} ${count}`)
    .join(' ')}`;
}

async function buildImages(demo: Demo): Promise<string> {
  const image = (name: string, tag: string): string => `${demo.registry}/demo/${name}:${tag}`;
  await demo.docker.build(join(demo.examples, 'store'), [image('store', 'v1'), image('store', 'stable')], {});
  for (const version of ['v1', 'v2']) {
    const second = version === 'v1' ? 'stable' : 'next';
    await demo.docker.build(join(demo.examples, 'web'), [image('web', version), image('web', second)], {
      VERSION: version,
    });
    await demo.docker.build(join(demo.examples, 'api'), [image('api', version), image('api', second)], {
      VERSION: version,
    });
  }
  return "web and api in two versions, store on Debian's redis";
}

async function pushImages(demo: Demo): Promise<string> {
  const tags = [
    'store:v1',
    'store:stable',
    'web:v1',
    'web:stable',
    'web:v2',
    'web:next',
    'api:v1',
    'api:stable',
    'api:v2',
    'api:next',
  ].map((tag) => `${demo.registry}/demo/${tag}`);
  for (const tag of tags) await demo.docker.push(tag);
  await demo.docker.pullAgain(`${demo.registry}/demo/web:next`);
  return `${tags.length} tags pushed, one pulled back`;
}

async function applyManifests(demo: Demo): Promise<string> {
  await demo.kube.apply(demo.manifests);
  for (const target of ['statefulset/store', 'deployment/api', 'deployment/web'])
    await demo.kube.rolloutStatus('demo', target, 120);
  const port = async (name: string): Promise<number> =>
    (await demo.get(kinds.Service, name))?.spec.ports?.[0]?.nodePort ?? 0;
  demo.apiNodePort = await port('api');
  demo.webNodePort = await port('web');
  const claims = await demo.client.list(kinds.PersistentVolumeClaim, { namespace: 'demo' });
  if (!claims.items.every((claim) => claim.status?.phase === 'Bound'))
    throw new Error("the store's volume claim is not bound");
  return 'all Pods ready, the claim bound';
}

async function reachApplication(demo: Demo): Promise<string> {
  const nodePort = await demo.until('NodePort', 10_000, async () => {
    const answer = await demo.fetch(`http://127.0.0.1:${demo.apiNodePort}/`);
    return answer.status === 200 && answer.body;
  });
  if (!/"greeting":"ahoy".*"visits":\d+/.test(nodePort)) throw new Error(`the API answered ${nodePort}`);
  await demo.until('Ingress', 15_000, async () => {
    const answer = await demo.fetch(`http://127.0.0.1:${demo.instance.httpPort}/api/`);
    return answer.status === 200 && answer.body.includes('visits');
  });
  await demo.until('Ingress to the page', 5_000, async () =>
    (await demo.fetch(`http://127.0.0.1:${demo.instance.httpPort}/`)).body.includes('It runs.'),
  );
  const web = await readyPod(demo, 'web');
  const answer = await demo.kube.exec('demo', web.metadata.name, [
    'wget',
    '-q',
    '-O',
    '-',
    'http://api.demo.svc.cluster.local/',
  ]);
  if (!answer.includes('visits')) throw new Error(`from another Pod the API answered ${JSON.stringify(answer)}`);
  return 'by NodePort, by Ingress, and by name from another Pod';
}

async function scaleUp(demo: Demo): Promise<string> {
  const begun = realClock.monotonic();
  await demo.kube.scale('demo', 'api', 5);
  await demo.until('five ready Pods', 60_000, async () => (await readyPods(demo, 'api')).length === 5);
  return `1 → 5 ready after ${Math.round(realClock.monotonic() - begun)} ms`;
}

async function rollOut(demo: Demo): Promise<string> {
  const common = { connections: loadConnections, perSecond: loadRatePerSecond, deadlineMs: 2_000, clock: realClock };
  const loads = [
    {
      through: 'NodePort',
      load: startLoad({
        ...common,
        url: `http://127.0.0.1:${demo.apiNodePort}/`,
        logPath: join(demo.results, 'rollout-nodeport.log'),
      }),
    },
    {
      through: 'Ingress',
      load: startLoad({
        ...common,
        url: `http://127.0.0.1:${demo.instance.httpPort}/api/`,
        logPath: join(demo.results, 'rollout-ingress.log'),
      }),
    },
  ];
  let results: { through: string; result: LoadResult }[];
  try {
    await realClock.sleep(500);
    await demo.kube.setImage('demo', 'api', 'api', `${demo.registry}/demo/api:v2`);
    await demo.kube.rolloutStatus('demo', 'deployment/api', 120);
    // The old Pods stop slowly: the load goes on until the last is gone.
    await demo.until('the old Pods to end', 60_000, async () => (await demo.pods('api')).length === 5);
    await realClock.sleep(300);
  } finally {
    results = await Promise.all(loads.map(async ({ through, load }) => ({ through, result: await load.stop() })));
  }
  const notes = results.map(({ through, result }) => expectOk(result, through));
  for (const { through, result } of results)
    if (result.versions['v1'] === undefined || result.versions['v2'] === undefined)
      throw new Error(`${through}: both versions should have answered, but ${JSON.stringify(result.versions)} did`);
  return notes.join('; ');
}

async function rollBack(demo: Demo): Promise<string> {
  await demo.kube.rolloutUndo('demo', 'api');
  await demo.kube.rolloutStatus('demo', 'deployment/api', 120);
  const answer = await demo.until('version 1', 10_000, async () => {
    const { body } = await demo.fetch(`http://127.0.0.1:${demo.apiNodePort}/`);
    return body.includes('"version":"v1"') && body;
  });
  await demo.kube.scale('demo', 'api', 2);
  return answer.trim();
}

async function healItself(demo: Demo): Promise<string> {
  const victim = await readyPod(demo, 'web');
  const { restartCount: before = 0, containerID = '' } = victim.status?.containerStatuses?.[0] ?? {};
  const id = containerID.replace(/^.*:\/\//, '');
  const { Pid } = (await demo.docker.inspect(id)).State;
  if (!(Pid > 1) || !linuxProcesses.kill(Pid, 'SIGKILL')) throw new Error(`container ${id} has no process to kill`);
  await demo.until('the container to come back', 30_000, async () => {
    const pod = await demo.get(kinds.Pod, victim.metadata.name);
    const status = pod?.status?.containerStatuses?.[0];
    return status !== undefined && status.restartCount > before && status.ready && !status.containerID?.endsWith(id);
  });
  const api = await readyPod(demo, 'api');
  await demo.kube.deletePod('demo', api.metadata.name);
  await demo.until('another Pod in its place', 30_000, async () => {
    const now = await readyPods(demo, 'api');
    return now.length >= 2 && !now.some((pod) => pod.metadata.uid === api.metadata.uid);
  });
  return `container of ${victim.metadata.name} restarted, Pod ${api.metadata.name} replaced`;
}

async function autoscale(demo: Demo): Promise<string> {
  const replicas = async (): Promise<number> => (await demo.get(kinds.Deployment, 'web'))?.spec.replicas ?? 0;
  const load = startLoad({
    url: `http://127.0.0.1:${demo.webNodePort}/cgi-bin/burn`,
    connections: 8,
    perSecond: 40,
    deadlineMs: 10_000,
    clock: realClock,
    logPath: join(demo.results, 'autoscale.log'),
  });
  let most = 1;
  try {
    most = await demo.until('more replicas under load', 60_000, async () => {
      const now = await replicas();
      return now >= 2 && now;
    });
  } finally {
    await load.stop();
  }
  await demo.until('one replica without load', 120_000, async () => (await replicas()) === 1);
  return `1 → ${most} → 1`;
}

export const steps: readonly Step[] = [
  { title: 'build three images from Dockerfiles', run: buildImages },
  { title: 'push them under two tags, pull one back', run: pushImages },
  { title: 'apply the manifests', run: applyManifests },
  { title: 'reach the application', run: reachApplication },
  { title: 'scale the API from 1 to 5', run: scaleUp },
  { title: 'roll out version 2 under load', run: rollOut },
  { title: 'roll back', run: rollBack },
  { title: 'kill a container, delete a Pod', run: healItself },
  { title: 'kill -9 every process of Tiphys, start again', run: surviveKill },
  { title: 'autoscale up under load and down again', run: autoscale },
];
