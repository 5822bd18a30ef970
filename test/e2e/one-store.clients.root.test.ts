/**
 * One store of images for docker and the cluster, on two nodes: what is built runs at once, and no cleaning takes it
 * away from a Pod.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { createMachine, run } from './machine.ts';

test(
  'what docker builds, Pods run on any node, and no prune or rm takes it from them',
  { timeout: 240_000 },
  async (t) => {
    await using machine = createMachine();
    assert.equal((await machine.tiphys(['up', '--nodes', '2'])).code, 0);
    const context = dirname(
      machine.file(
        'app/Dockerfile',
        'FROM busybox\nRUN echo hi > /msg\nCMD ["sh", "-c", "mkdir -p /www; cp /msg /www; exec httpd -f -p 8080 -h /www"]\n',
      ),
    );
    const build = await machine.docker('build', '-q', '-t', 'app', context);
    assert.equal(build.code, 0, build.stderr);
    await machine.kube('create', 'deployment', 'app', '--image=app', '--replicas=4');
    await machine.kube('rollout', 'status', 'deployment/app', '--timeout=60s');
    const uids = (): Promise<string> =>
      machine.kube(
        'get',
        'pods',
        '-l',
        'app=app',
        '-o',
        'jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}{"\\n"}{end}',
      );
    const before = await uids();

    await t.test('Pods run on both nodes', async () => {
      const nodes = new Set(
        (await machine.kube('get', 'pods', '-l', 'app=app', '-o', 'jsonpath={.items[*].spec.nodeName}')).split(' '),
      );
      assert.equal(nodes.size, 2);
    });
    await t.test('docker ps shows the containers of Pods as guests, and rm -f refuses them', async () => {
      assert.match((await machine.docker('ps', '--format', '{{.Names}}')).stdout, /^k8s_app_app-/m);
      await machine.docker('run', '-d', '--name', 'mine', 'busybox', 'sleep', '1000');
      const ids = (await machine.docker('ps', '-aq')).stdout.trim().split('\n');
      const removal = await machine.docker('rm', '-f', ...ids);
      assert.match(removal.stderr, /it belongs to the cluster and is managed there/);
      assert.doesNotMatch((await machine.docker('ps', '-a', '--format', '{{.Names}}')).stdout, /^mine$/m);
      assert.equal(await uids(), before);
    });
    await t.test('docker system prune -af --volumes leaves what Pods need', async () => {
      const prune = await machine.docker('system', 'prune', '-af', '--volumes');
      assert.equal(prune.code, 0, prune.stderr);
      assert.match((await machine.docker('images', '--format', '{{.Repository}}:{{.Tag}}')).stdout, /^app:latest$/m);
      assert.match((await machine.docker('rmi', '-f', 'app')).stderr, /image is being used by running container/);
      await machine.kube('scale', 'deployment/app', '--replicas=6');
      await machine.kube('rollout', 'status', 'deployment/app', '--timeout=60s');
    });
    await t.test(
      'a base image that was pruned is made once for all who ask for it together, on both nodes',
      async () => {
        await machine.kube('create', 'deployment', 'base', '--image=busybox', '--replicas=4', '--', 'sleep', '1000');
        await machine.kube('rollout', 'status', 'deployment/base', '--timeout=90s');
      },
    );
    await t.test('what the kubelet brought may go, what the user tagged may not', async () => {
      const show = await run('docker', ['image', 'inspect', '-f', '{{.Id}}', 'app'], machine.environment);
      assert.equal(show.code, 0);
      await machine.docker('tag', 'busybox', 'kept:1');
      await machine.kube('delete', 'deployment', 'base', '--wait=true');
      assert.match((await machine.docker('images', '--format', '{{.Repository}}:{{.Tag}}')).stdout, /^kept:1$/m);
    });
    assert.equal((await machine.tiphys(['down'])).code, 0);
    assert.deepEqual(machine.leftovers(), []);
  },
);
