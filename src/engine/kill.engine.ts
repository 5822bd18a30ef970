/**
 * For kill.root.test.ts: a program that makes, starts, enters and removes containers at random until it is killed.
 * Each step is told on standard output before it begins and after it was answered, so that the test knows what it may
 * expect.
 */
import { existsSync, writeSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { SimRandom } from '#os/clock.sim.ts';
import type { DockerEngine } from './create-engine.ts';
import { connectNetwork, disconnectNetwork } from './network-connect.ts';
import { openTestEngine, specOf } from './testing.ts';

export interface Step {
  step: 'creating' | 'created' | 'starting' | 'started' | 'removing' | 'removed';
  id: string;
  code: number;
  lines: number;
}

export interface NetworkStep {
  network: string;
  step: 'creating' | 'created' | 'removing' | 'removed';
}

/** What it does comes from the seed it was given; when it is killed comes from whoever kills it. */
const random = new SimRandom(Number(process.argv[4] ?? 0));
const pick = (most: number): number => Math.floor(random.float() * most);

/** One container from beginning to end, or a part of that. */
async function liveOnce(engine: DockerEngine): Promise<void> {
  const told = { id: Buffer.from(random.bytes(32)).toString('hex'), code: pick(100), lines: 1 + pick(40) };
  const tell = (step: Step['step']): void => {
    writeSync(1, `${JSON.stringify({ step, ...told })}\n`);
  };
  const { id, lines, code } = told;
  tell('creating');
  const script = `i=0; while [ $i -lt ${lines} ]; do echo $i; i=$((i+1)); sleep 0.02; done; exit ${code}`;
  await engine.containers.create({
    ...specOf(`k${id.slice(0, 12)}`, ['sh', '-c', script]),
    id,
    network: pick(4) === 0 ? { type: 'none' } : { type: 'networks' },
    ...(pick(3) === 0 ? { ipcMode: { type: 'shareable' as const } } : {}),
    ...(pick(3) === 0
      ? { ports: [{ hostIp: '127.0.0.1', hostPort: 0, protocol: 'tcp' as const, containerPort: 80 }] }
      : {}),
  });
  tell('created');
  if (pick(8) === 0) return;
  tell('starting');
  await engine.containers.start(id);
  tell('started');
  if (pick(3) === 0)
    // The container may have ended, or end meanwhile.
    await engine.containers
      .exec(id, { command: ['echo', 'x'], tty: pick(2) === 0 }, { stdout: new PassThrough().resume() })
      .catch(() => undefined);
  if (pick(2) === 0) return;
  tell('removing');
  await engine.containers.remove(id, { force: true });
  tell('removed');
}

/** A network, onto which whoever runs is brought and taken off again. */
async function networkOnce(engine: DockerEngine): Promise<void> {
  const network = `n${Buffer.from(random.bytes(4)).toString('hex')}`;
  const tell = (step: NetworkStep['step']): void => {
    writeSync(1, `${JSON.stringify({ step, network })}\n`);
  };
  tell('creating');
  const kind = pick(4);
  await engine.networks.create({
    name: network,
    enableIpv6: kind === 1,
    ...(kind === 2 ? { driver: 'macvlan' } : {}),
    options: kind === 3 ? { 'com.docker.network.bridge.name': `k${network}` } : {},
  });
  tell('created');
  for (const container of engine.table.list().filter(({ isRunning }) => isRunning)) {
    const attachment = { network, aliases: [], gatewayPriority: pick(2) };
    const isLeaving = pick(2) === 0;
    try {
      await connectNetwork(engine.table, container, attachment);
      if (isLeaving) await disconnectNetwork(engine.table, container, network);
    } catch {
      // It has ended, or was taken away, meanwhile.
    }
  }
  if (pick(2) === 0) return;
  tell('removing');
  await engine.networks.remove(network).then(
    () => tell('removed'),
    // Somebody is on it.
    () => tell('created'),
  );
}

if (import.meta.main) {
  const [home, instanceId] = process.argv.slice(2);
  if (home === undefined || instanceId === undefined || !existsSync(home))
    throw new Error('home and instance are missing');
  const engine = await openTestEngine(home, instanceId);
  writeSync(1, '{}\n');
  const live = async (): Promise<void> => {
    for (;;) await liveOnce(engine);
  };
  const churnNetworks = async (): Promise<void> => {
    for (;;) await networkOnce(engine);
  };
  await Promise.all([live(), live(), live(), churnNetworks()]);
}
