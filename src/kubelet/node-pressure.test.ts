/** Node pressure: what is short, what is said, and who goes when. */
import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { SimClock } from '#os/clock.sim.ts';
import type { NodeReading } from './doors.ts';
import type { EvictionCandidate, Starved } from './eviction.ts';
import { memoryOf, processesOf } from './linux-node.ts';
import { NodePressure, shortagesOf } from './node-pressure.ts';
import { stored } from './stored.testing.ts';

const mib = 1024 * 1024;
const plenty: NodeReading = {
  memoryCapacityBytes: 1024 * mib,
  memoryAvailableBytes: 512 * mib,
  nodefs: { capacityBytes: 1000 * mib, availableBytes: 500 * mib, inodes: 1000, inodesFree: 500 },
  pidsMax: 1000,
  pidsUsed: 100,
};

test('what is short is measured by the bounds of each resource', () => {
  const short = (reading: Partial<NodeReading>): [string, Starved][] =>
    shortagesOf({ ...plenty, ...reading }).map(({ condition, resource }) => [condition, resource]);
  const disk = plenty.nodefs;
  assert.deepEqual(short({}), []);
  assert.deepEqual(short({ memoryAvailableBytes: 100 * mib }), []);
  assert.deepEqual(short({ memoryAvailableBytes: 100 * mib - 1 }), [['memory', 'memory']]);
  assert.deepEqual(short({ nodefs: { ...disk, availableBytes: 100 * mib } }), []);
  assert.deepEqual(short({ nodefs: { ...disk, availableBytes: 99 * mib } }), [['disk', 'ephemeral-storage']]);
  assert.deepEqual(short({ nodefs: { ...disk, inodesFree: 49 } }), [['disk', 'inodes']]);
  assert.deepEqual(short({ nodefs: { ...disk, inodes: 0, inodesFree: 0 } }), [], 'no limit to inodes');
  assert.deepEqual(short({ imagefs: { ...disk, availableBytes: 149 * mib } }), [['disk', 'ephemeral-storage']]);
  assert.deepEqual(short({ pidsUsed: 951 }), [['pid', 'pids']]);
  assert.deepEqual(short({ pidsMax: 0, pidsUsed: 0 }), [], 'a kernel that does not say it');
  assert.deepEqual(short({ memoryAvailableBytes: 0, pidsUsed: 999 })[0], ['memory', 'memory'], 'memory first');
});

interface Candidate extends EvictionCandidate {
  name: string;
}
function candidate(name: string, usage: number, request: number, priority = 0): Candidate {
  const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata: { ...stored, name }, spec: { containers: [], priority } };
  return { name, pod, usage, request, containers: [{ name: 'main', usage, request }] };
}

function node(candidates: Candidate[]) {
  const clock = new SimClock(0);
  const [done, it] = [[] as string[], { reading: plenty }];
  const say = (what: string): void => {
    done.push(`${clock.now() / 1000}s ${what}`);
  };
  const pressure: NodePressure<Candidate> = new NodePressure<Candidate>({
    clock,
    log: silentLogger,
    gauge: { read: async () => it.reading },
    report: async () =>
      say(
        `${Object.entries(pressure.conditions)
          .filter(([, holds]) => holds)
          .map(([name]) => name)
          .join('+')}!`,
      ),
    reclaimDisk: async () => say('reclaims'),
    candidates: async () => candidates.filter(({ name }) => !done.some((line) => line.includes(` ${name}:`))),
    evict: ({ name }, message) => say(`${name}: ${message}`),
  });
  return { clock, done, it, pressure };
}

test('memory: one Pod at once and one every ten seconds, those first that use more than they asked for, by priority', async () => {
  const { clock, done, it, pressure } = node([
    candidate('within', 10 * mib, 20 * mib),
    candidate('high', 30 * mib, 10 * mib, 1000),
    candidate('low', 20 * mib, 10 * mib),
    candidate('critical', 500 * mib, 0, 2_000_001_000),
  ]);
  it.reading = { ...plenty, memoryAvailableBytes: 50 * mib };
  await pressure.look();
  await pressure.look();
  assert.deepEqual(pressure.refusing, { disk: false, memory: true, pid: false });
  await clock.advance(35_000);
  const say = (name: string, more = ''): string =>
    `${name}: The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. ${more}`;
  assert.deepEqual(done, [
    '0s memory!',
    `0s ${say('low', 'Container main was using 20480Ki, request is 10Mi, has larger consumption of memory. ')}`,
    `10s ${say('high', 'Container main was using 30720Ki, request is 10Mi, has larger consumption of memory. ')}`,
    `20s ${say('within')}`,
  ]);
  pressure.close();
});

test('disk: all else has its turn first, and the condition holds for five minutes after the last sign', async () => {
  const { clock, done, it, pressure } = node([candidate('web', 0, 0)]);
  it.reading = { ...plenty, nodefs: { ...plenty.nodefs, availableBytes: 0 } };
  await pressure.look();
  await clock.advance(9_000);
  assert.deepEqual(done, ['0s disk!', '0s reclaims'], 'images may have been enough');
  await clock.advance(1_000);
  assert.match(done[2]!, /^10s web: The node was low on resource: ephemeral-storage/);
  it.reading = plenty;
  await clock.advance(280_000);
  assert.equal(pressure.conditions.disk, true);
  await clock.advance(30_000);
  assert.deepEqual([pressure.conditions.disk, done.at(-1)], [false, '310s !']);
  assert.equal(clock.pending, 0, 'nothing is looked at again');
});

test('until the API server knows of it nobody is refused', async () => {
  const told = Promise.withResolvers<void>();
  const pressure = new NodePressure<Candidate>({
    clock: new SimClock(0),
    log: silentLogger,
    gauge: { read: async () => ({ ...plenty, pidsUsed: 999 }) },
    report: () => told.promise,
    reclaimDisk: async () => undefined,
    candidates: async () => [],
    evict: () => assert.fail('there is nobody'),
  });
  const looked = pressure.look();
  await new Promise(setImmediate);
  assert.deepEqual([pressure.conditions.pid, pressure.refusing.pid], [true, false]);
  told.resolve();
  await looked;
  assert.equal(pressure.refusing.pid, true);
  pressure.close();
});

test('what the kernel says of memory and processes is read from its own words', () => {
  const text = 'MemTotal:       32849852 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\n';
  assert.equal(memoryOf(text, 'MemAvailable'), 20_000_000 * 1024);
  assert.equal(memoryOf('MemTotal: 1 kB\n', 'MemAvailable'), undefined);
  assert.equal(processesOf('0.00 0.01 0.05 2/1234 56789\n'), 1234);
});
