/**
 * Processes of the platform are killed at work: one alone, and all at once during builds, starts, pulls and roll-outs.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { dirname } from 'node:path';
import { Agent, get } from 'node:http';
import dnsPacket from 'dns-packet';
import { createMachine, type Machine } from './machine.ts';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks a Service again and again over new connections until it is told to stop. */
function load(url: string): { stop(): Promise<{ asked: number; failed: string[] }> } {
  let going = true;
  const failed: string[] = [];
  let asked = 0;
  const agent = new Agent({ keepAlive: false });
  const one = (): Promise<void> =>
    new Promise((resolve) => {
      asked++;
      const request = get(url, { agent, timeout: 2_000 }, (response) => {
        response.resume();
        response.on('end', resolve);
      });
      request.on('timeout', () => request.destroy(new Error('timeout')));
      request.on('error', (error) => {
        failed.push(error.message);
        resolve();
      });
    });
  const work = (async () => {
    while (going) {
      await one();
      await pause(5);
    }
  })();
  return {
    async stop() {
      going = false;
      await work;
      return { asked, failed };
    },
  };
}

/** True when the cluster's DNS server answers within a twentieth of a second. */
function answers(server: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const finish = (ok: boolean): void => {
      clearTimeout(timer);
      socket.close();
      resolve(ok);
    };
    const timer = setTimeout(() => finish(false), 50);
    socket.on('message', () => finish(true));
    socket.on('error', () => finish(false));
    socket.connect(53, server, () =>
      socket.send(
        dnsPacket.encode({
          type: 'query',
          id: 1,
          flags: 0x100,
          questions: [{ name: 'web.default.svc.cluster.local', type: 'A' }],
        }),
      ),
    );
  });
}

async function startWeb(machine: Machine): Promise<string> {
  const context = dirname(
    machine.file(
      'app/Dockerfile',
      'FROM busybox\nRUN mkdir /www; echo hi > /www/index.html\nCMD ["httpd", "-f", "-p", "8080", "-h", "/www"]\n',
    ),
  );
  assert.equal((await machine.docker('build', '-q', '-t', 'app', context)).code, 0);
  await machine.kube('create', 'deployment', 'web', '--image=app', '--replicas=2', '--port=8080');
  // A roll-out promises answers only where a Pod says when it listens, and where one that ends stays until it is no
  // longer chosen, which takes as long as the whole platform is away.
  await machine.kube(
    'patch',
    'deployment',
    'web',
    '-p',
    JSON.stringify({
      spec: {
        template: {
          spec: {
            terminationGracePeriodSeconds: 10,
            containers: [{ name: 'app', readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 } }],
          },
        },
      },
    }),
  );
  await machine.kube('rollout', 'status', 'deployment/web', '--timeout=60s');
  await machine.kube('expose', 'deployment', 'web', '--port=80', '--target-port=8080');
  return machine.kube('get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
}

test('one process is killed alone', { timeout: 180_000 }, async (t) => {
  await using machine = createMachine();
  assert.equal((await machine.tiphys(['up'])).code, 0);
  const address = await startWeb(machine);
  const state = (): Promise<string> =>
    machine.kube(
      'get',
      'pods',
      '-l',
      'app=web',
      '-o',
      'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}{"\\n"}{end}',
    );
  const before = await state();
  const pod = before.split(' ')[0]!;
  const dns = /nameserver (\S+)/.exec(await machine.kube('exec', pod, '--', 'cat', '/etc/resolv.conf'))![1]!;
  for (const part of ['node-1', 'server']) {
    await t.test(`${part}: no request to a Service fails, Pods stay, exec and logs work again`, async () => {
      const requests = load(`http://${address}/`);
      await pause(200);
      const pid = machine.pid(part);
      process.kill(pid, 'SIGKILL');
      if (part === 'node-1') {
        await machine.until('another process', async () => String(machine.pid(part) !== pid), /true/, 10_000);
        await machine.until('DNS comes back', async () => String(await answers(dns)), /true/, 10_000);
      }
      await machine.until(
        'exec',
        async () => (await machine.kubectl('exec', pod, '--', 'echo', 'back')).stdout,
        /back/,
      );
      assert.equal((await machine.kubectl('logs', pod)).code, 0);
      const { asked, failed } = await requests.stop();
      assert.ok(asked > 10);
      assert.deepEqual(failed, []);
      assert.notEqual(machine.pid(part), pid);
      assert.equal(await state(), before);
    });
  }
  await t.test('a run directory and links that are gone, as after a reboot, are made anew', async () => {
    machine.killAll();
    // What a reboot does to the kernel's side is done by `down`; the run directory goes with it.
    assert.equal((await machine.tiphys(['down'])).code, 0);
    rmSync(`${machine.home}/run`, { recursive: true, force: true });
    const up = await machine.tiphys(['up']);
    assert.equal(up.code, 0, up.stderr);
    await machine.kube('rollout', 'status', 'deployment/web', '--timeout=60s');
    await machine.until(
      'the Service',
      async () => {
        const requests = load(`http://${address}/`);
        await pause(100);
        return String((await requests.stop()).failed.length);
      },
      /^0$/,
    );
  });
});

test(
  'everything is killed at work, again and again; up repairs, and down leaves nothing',
  { timeout: 300_000 },
  async (t) => {
    await using machine = createMachine();
    assert.equal((await machine.tiphys(['up'])).code, 0);
    const address = await startWeb(machine);
    const slow = dirname(
      machine.file(
        'slow/Dockerfile',
        'FROM busybox\nARG n\nRUN echo $n > /n; dd if=/dev/zero of=/b bs=1M count=8; sleep 0.3\nRUN echo done > /done\n',
      ),
    );
    const works: Record<string, (round: number) => Promise<unknown>> = {
      build: (round) => machine.docker('build', '-q', '--build-arg', `n=${round}`, '-t', `slow:${round}`, slow),
      start: (round) =>
        Promise.all([
          machine.docker('run', '-d', '--name', `run-${round}`, 'busybox', 'sleep', '1000'),
          machine.kubectl('run', `pod-${round}`, '--image=app', '--restart=Never'),
        ]),
      'roll-out': (round) => machine.kubectl('set', 'env', 'deployment/web', `ROUND=${round}`),
      pull: async () => {
        await machine.docker('rmi', '-f', 'debian:bookworm-slim');
        await machine.docker('pull', '-q', 'busybox');
      },
    };
    for (const [name, work] of Object.entries(works)) {
      await t.test(name, async () => {
        for (let round = 0; round < 3; round++) {
          const running = work(round);
          await pause(40 + round * 230);
          machine.killAll();
          await running;
          const requests = load(`http://${address}/`);
          const up = await machine.tiphys(['up']);
          assert.equal(up.code, 0, up.stderr);
          await machine.kube('rollout', 'status', 'deployment/web', '--timeout=60s');
          assert.deepEqual((await requests.stop()).failed, [], 'Services answer while everything is away');
        }
        const again = await machine.docker('build', '-q', '--build-arg', `n=${name}`, '-t', 'again', slow);
        assert.equal(again.code, 0, again.stderr);
      });
    }
    assert.doesNotMatch(await machine.kube('get', 'pods', '--no-headers'), /Unknown|Error|CrashLoop/);
    assert.equal((await machine.tiphys(['down'])).code, 0);
    assert.deepEqual(machine.leftovers(), []);
  },
);
