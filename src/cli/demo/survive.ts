/**
 * kill -9 to everything that is Tiphys, but not to the containers' monitors; then start again. Proves that no container
 * stopped, that a log has no gap, that an exit code is exact, that restart policies act, and that published ports and
 * Services answered all the while.
 */
import type { Pod } from '#api/core.v1.ts';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '#base/thrown.ts';
import { kinds } from '#base/kinds.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { readIfExists } from '#os/files.ts';
import { partNames, partStatus } from '#platform/launch.ts';
import { localNodes } from '#platform/local-nodes.ts';
import { files } from '#platform/paths.ts';
import { bringUp } from '#platform/up.ts';
import { fetchOnce, type Demo } from './demo.ts';
import type { DockerDriver } from './driver.ts';

const names = { lines: 'demo-lines', exits: 'demo-exits', restarts: 'demo-restarts', port: 'demo-port' };
const downMs = 1_500;
const exitCode = 37;

/** Pids of every process of the instance except conmon and what it holds. */
function platformPids(demo: Demo): number[] {
  const pids: number[] = [];
  const addTree = (pid: number): void => {
    const comm = readIfExists(`/proc/${pid}/comm`)?.trim();
    if (comm === undefined || comm === 'conmon') return;
    pids.push(pid);
    for (const child of (readIfExists(`/proc/${pid}/task/${pid}/children`) ?? '')
      .trim()
      .split(' ')
      .filter((text) => text !== ''))
      addTree(Number(child));
  };
  for (const name of partNames(demo.paths)) {
    const part = partStatus(demo.paths, name);
    if (part.supervisor !== undefined) addTree(part.supervisor);
    else if (part.pid !== undefined) addTree(part.pid);
  }
  for (const number of localNodes(demo.paths)) {
    const pid = Number(readIfExists(join(files.nodeRun(demo.paths, number), 'ingress/haproxy.pid'))?.trim());
    if (pid > 0 && readIfExists(`/proc/${pid}/comm`)?.trim() === 'haproxy') pids.push(pid);
  }
  return pids;
}

/** Asks again and again until stopped; collects what failed. */
function watchUrl(url: string): { stop(): Promise<{ asked: number; failures: string[] }> } {
  let stopped = false;
  let asked = 0;
  const failures: string[] = [];
  const loop = (async () => {
    while (!stopped) {
      asked += 1;
      await fetchOnce(url, 2_000).then(
        (answer) => {
          if (answer.status !== 200) failures.push(`status ${answer.status}`);
        },
        (error: unknown) => failures.push(messageOf(error)),
      );
      await realClock.sleep(20);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
      return { asked, failures };
    },
  };
}

/** When a process was started, in the kernel's ticks: with its pid it names one process for good. */
function startOf(pid: number): string {
  const [, afterName = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  return afterName.split(' ')[19] ?? '';
}

/** One that logs without a break, one that serves, one that its policy restarts, one that ends while nobody looks. */
async function startContainers(docker: DockerDriver): Promise<void> {
  const shell = (name: string, script: string, options: { publish?: string; restart?: string } = {}): Promise<string> =>
    docker.run(name, 'busybox', ['sh', '-c', script], options);
  // Left by an earlier run, or not there.
  await docker.removeForce(Object.values(names)).catch(() => {});
  await shell(names.lines, 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done');
  await shell(names.port, 'mkdir /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www', {
    publish: '127.0.0.1::8080',
  });
  await shell(names.restarts, 'sleep 2; exit 3', { restart: 'always' });
  await shell(names.exits, `sleep 2; exit ${exitCode}`);
}

const restartsOf = (pod: Pod): number => pod.status?.containerStatuses?.[0]?.restartCount ?? 0;

/** What ran before the kill, by which it is known again. */
interface Before {
  /** By container. */
  processes: Map<string, { pid: number; start: string }>;
  /** Restarts of the API's Pods, by UID. */
  restarts: Map<string, number>;
}

async function noteBefore({ docker, pods }: Demo): Promise<Before> {
  const running = (await pods('api')).filter(
    (pod) => pod.status?.phase === 'Running' && pod.metadata.deletionTimestamp === undefined,
  );
  const processes: Before['processes'] = new Map();
  for (const name of [names.lines, names.port]) {
    const { Pid } = (await docker.inspect(name)).State;
    processes.set(name, { pid: Pid, start: startOf(Pid) });
  }
  return { processes, restarts: new Map(running.map((pod) => [pod.metadata.uid, restartsOf(pod)])) };
}

/** Where containers and Pods answer: a published port, a NodePort, a Service's address. */
async function findUrls(demo: Demo): Promise<string[]> {
  const [port] = (await demo.docker.inspect(names.port)).NetworkSettings.Ports['8080/tcp'] ?? [];
  if (port === undefined) throw new Error(`port 8080 of ${names.port} is not published`);
  const published = `http://127.0.0.1:${port.HostPort}/`;
  await demo.until('the published port', 5_000, async () => (await fetchOnce(published, 1_000)).status === 200);
  const service = (await demo.get(kinds.Service, 'api'))?.spec.clusterIP;
  return [published, `http://127.0.0.1:${demo.apiNodePort}/ping`, `http://${service}/ping`];
}

/** Answers how many processes were killed, and how long the way up took. */
async function killAndStart(demo: Demo): Promise<{ killed: number; upMs: number }> {
  const pids = platformPids(demo);
  for (const pid of pids) linuxProcesses.kill(pid, 'SIGKILL');
  await realClock.sleep(downMs);
  const begun = realClock.monotonic();
  await bringUp(demo.paths, {});
  return { killed: pids.length, upMs: Math.round(realClock.monotonic() - begun) };
}

/** The one that ended meanwhile has its exit code, the one that is to be restarted is, the others went on. */
async function judgeContainers({ docker, until }: Demo, before: Before): Promise<string[]> {
  const problems: string[] = [];
  const exited = (await docker.inspect(names.exits)).State.ExitCode;
  if (exited !== exitCode) problems.push(`exit code ${exited} where ${exitCode} was due`);
  await until('the restart policy to act', 15_000, async () => (await docker.inspect(names.restarts)).RestartCount > 0);
  for (const [name, { pid, start }] of before.processes) {
    const { Pid, Running } = (await docker.inspect(name)).State;
    if (!Running || Pid !== pid || startOf(Pid) !== start) problems.push(`${name} did not go on running`);
  }
  return problems;
}

/** Every line is there, in its place. */
async function judgeLog(docker: DockerDriver): Promise<{ count: number; problems: string[] }> {
  const lines = (await docker.logs(names.lines)).trim().split('\n');
  const gap = lines.findIndex((line, index) => line !== `line ${index + 1}`);
  const problems = gap < 0 ? [] : [`the log has a gap at line ${gap + 1}: ${JSON.stringify(lines[gap])}`];
  return { count: lines.length, problems };
}

async function judgePods({ pods }: Demo, { restarts }: Before): Promise<string[]> {
  return (await pods('api')).flatMap((pod) => {
    const before = restarts.get(pod.metadata.uid);
    return before === undefined || restartsOf(pod) === before ? [] : [`Pod ${pod.metadata.name} was restarted`];
  });
}

export async function surviveKill(demo: Demo): Promise<string> {
  const { docker } = demo;
  await startContainers(docker);
  const before = await noteBefore(demo);
  const watches = (await findUrls(demo)).map((url) => ({ url, watch: watchUrl(url) }));
  const { killed, upMs } = await killAndStart(demo);
  await demo.until('the exited container', 10_000, async () => !(await docker.inspect(names.exits)).State.Running);
  const problems: string[] = [];
  for (const { url, watch } of watches) {
    const { asked, failures } = await watch.stop();
    if (failures.length > 0) problems.push(`${url}: ${failures.length} of ${asked} requests failed (${failures[0]})`);
  }
  problems.push(...(await judgeContainers(demo, before)));
  const log = await judgeLog(docker);
  problems.push(...log.problems, ...(await judgePods(demo, before)));
  await docker.removeForce(Object.values(names));
  if (problems.length > 0) throw new Error(problems.join('; '));
  return `${killed} processes killed, up again in ${upMs} ms; ${log.count} log lines without a gap, exit code ${exitCode}, ports and Services answered throughout`;
}
