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

const names = { lines: 'demo-lines', exits: 'demo-exits', restarts: 'demo-restarts', port: 'demo-port' };
const downMs = 1_500;

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

function startOf(pid: number): string {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')[19]!;
}

export async function surviveKill(demo: Demo): Promise<string> {
  const { docker } = demo;
  // Left by an earlier run, or not there.
  await docker.removeForce(Object.values(names)).catch(() => {});
  await docker.run(
    names.lines,
    'busybox',
    ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done'],
    {},
  );
  await docker.run(
    names.port,
    'busybox',
    ['sh', '-c', 'mkdir /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www'],
    { publish: '127.0.0.1::8080' },
  );
  await docker.run(names.restarts, 'busybox', ['sh', '-c', 'sleep 2; exit 3'], { restart: 'always' });
  await docker.run(names.exits, 'busybox', ['sh', '-c', 'sleep 2; exit 37'], {});
  const published = (await docker.inspect(names.port)).NetworkSettings.Ports['8080/tcp']![0]!.HostPort;
  const service = (await demo.get(kinds.Service, 'api'))?.spec.clusterIP;
  const api = (await demo.pods('api')).filter(
    (pod) => pod.status?.phase === 'Running' && pod.metadata.deletionTimestamp === undefined,
  );
  const restartsOf = (pod: Pod): number => pod.status?.containerStatuses?.[0]?.restartCount ?? 0;
  const restartsBefore = new Map(api.map((pod) => [pod.metadata.uid, restartsOf(pod)]));
  const pidsBefore = new Map<string, { pid: number; start: string }>();
  for (const name of [names.lines, names.port]) {
    const { Pid } = (await docker.inspect(name)).State;
    pidsBefore.set(name, { pid: Pid, start: startOf(Pid) });
  }
  await demo.until(
    'the published port',
    5_000,
    async () => (await fetchOnce(`http://127.0.0.1:${published}/`, 1_000)).status === 200,
  );

  const watches = [
    `http://127.0.0.1:${published}/`,
    `http://127.0.0.1:${demo.apiNodePort}/ping`,
    `http://${service}/ping`,
  ].map((url) => ({ url, watch: watchUrl(url) }));
  const pids = platformPids(demo);
  for (const pid of pids) linuxProcesses.kill(pid, 'SIGKILL');
  await realClock.sleep(downMs);
  const begun = realClock.monotonic();
  await bringUp(demo.paths, {});
  const upMs = Math.round(realClock.monotonic() - begun);
  await demo.until('the exited container', 10_000, async () => !(await docker.inspect(names.exits)).State.Running);
  const problems: string[] = [];
  for (const { url, watch } of watches) {
    const { asked, failures } = await watch.stop();
    if (failures.length > 0) problems.push(`${url}: ${failures.length} of ${asked} requests failed (${failures[0]})`);
  }
  const exited = (await docker.inspect(names.exits)).State.ExitCode;
  if (exited !== 37) problems.push(`exit code ${exited} where 37 was due`);
  await demo.until(
    'the restart policy to act',
    15_000,
    async () => (await docker.inspect(names.restarts)).RestartCount > 0,
  );
  for (const [name, before] of pidsBefore) {
    const { Pid, Running } = (await docker.inspect(name)).State;
    if (!Running || Pid !== before.pid || startOf(Pid) !== before.start) problems.push(`${name} did not go on running`);
  }
  const lines = (await docker.logs(names.lines)).trim().split('\n');
  const gap = lines.findIndex((line, index) => line !== `line ${index + 1}`);
  if (gap >= 0) problems.push(`the log has a gap at line ${gap + 1}: ${JSON.stringify(lines[gap])}`);
  for (const pod of await demo.pods('api')) {
    const before = restartsBefore.get(pod.metadata.uid);
    if (before !== undefined && restartsOf(pod) !== before) problems.push(`Pod ${pod.metadata.name} was restarted`);
  }
  await docker.removeForce(Object.values(names));
  if (problems.length > 0) throw new Error(problems.join('; '));
  return `${pids.length} processes killed, up again in ${upMs} ms; ${lines.length} log lines without a gap, exit code 37, ports and Services answered throughout`;
}
