/** Images of several platforms, as docker's own client makes, pulls, shows, runs and removes them; Pods start from them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { createMachine, run } from './machine.ts';

test(
  'an index goes from docker manifest to the registry, side by side into the store, and into Pods',
  { timeout: 240_000 },
  async (t) => {
    await using machine = createMachine();
    const up = await machine.tiphys(['up', '--nodes', '2']);
    assert.equal(up.code, 0);
    const registry = /Registry\s+(\S+)/.exec(up.stdout)?.[1] ?? '';
    const docker = async (...words: string[]): Promise<string> => {
      const { code, stdout, stderr } = await machine.docker(...words);
      assert.equal(code, 0, `${words.join(' ')}: ${stderr}`);
      return stdout;
    };
    const refused = async (...words: string[]): Promise<string> => {
      const { code, stderr } = await machine.docker(...words);
      assert.notEqual(code, 0, words.join(' '));
      return stderr;
    };
    const host = process.arch === 'x64' ? 'amd64' : process.arch;
    const foreign = host === 'arm64' ? 'amd64' : 'arm64';
    const name = `${registry}/ann/app:1`;
    const user = await run('./tiphys', ['registry-user', 'ann'], machine.environment, { input: 'password-1\n' });
    assert.equal(user.code, 0, user.stderr);
    await docker('login', '-u', 'ann', '-p', 'password-1', registry);

    await t.test('one image for each platform becomes a manifest list', async () => {
      const own = 'FROM busybox\nRUN echo own > /arch\nCMD ["sh", "-c", "cat /arch; sleep 1000"]\n';
      for (const [architecture, text] of [
        [host, own],
        [foreign, 'FROM scratch\nCOPY Dockerfile /arch\n'],
      ] as const) {
        const context = dirname(machine.file(`${architecture}/Dockerfile`, text));
        await docker('build', '-q', '--platform', `linux/${architecture}`, '-t', `${name}-${architecture}`, context);
        await docker('push', '-q', `${name}-${architecture}`);
      }
      await docker('manifest', 'create', '--insecure', name, `${name}-${host}`, `${name}-${foreign}`);
      await docker('manifest', 'annotate', name, `${name}-${foreign}`, '--arch', foreign, '--variant', 'v8');
      await docker('manifest', 'push', '--insecure', name);
      assert.match(await docker('manifest', 'inspect', '--insecure', name), /"variant": "v8"/);
      await docker('rmi', `${name}-${host}`, `${name}-${foreign}`);
    });

    const list = async (): Promise<string[]> =>
      (await docker('images', '--format', '{{.Repository}}:{{.Tag}}', '--filter', `reference=${registry}/ann/app`))
        .split('\n')
        .filter(Boolean);
    const idOf = (...more: string[]): Promise<string> =>
      docker('image', 'inspect', ...more, '--format', '{{.Id}} {{.Architecture}}', name);

    await t.test('its platforms lie side by side under one name', async () => {
      await docker('pull', '-q', name);
      await docker('pull', '-q', '--platform', `linux/${foreign}`, name);
      assert.deepEqual(await list(), [name]);
      const tree = await docker('image', 'ls', '--tree');
      for (const architecture of [host, foreign]) assert.ok(tree.includes(`linux/${architecture}`), tree);
      assert.match(await idOf(), new RegExp(`${host}$`, 'm'));
      assert.match(await idOf('--platform', `linux/${foreign}`), new RegExp(`${foreign}$`, 'm'));
      const digest = await docker(
        'image',
        'inspect',
        '--format',
        '{{json .Descriptor.digest}} {{json .RepoDigests}}',
        name,
      );
      const [descriptor = '', repoDigest = ''] = digest.trim().replaceAll('"', '').split(' ');
      assert.equal(repoDigest, `[${registry}/ann/app@${descriptor}]`);
      assert.equal((await docker('run', '--rm', name, 'cat', '/arch')).trim(), 'own');
      assert.equal((await docker('run', '--rm', '--platform', `linux/${host}`, name, 'cat', '/arch')).trim(), 'own');
      assert.match(
        await refused('run', '--rm', '--pull=never', '--platform', 'linux/s390x', name),
        /does not match the specified platform \(linux\/s390x\)/,
      );
      assert.match(
        await refused('run', '--rm', '--platform', 'linux/s390x', name),
        /no matching manifest for linux\/s390x in the manifest list entries/,
      );
    });

    await t.test('they are saved and loaded together, and removed one by one', async () => {
      const archive = machine.file('app.tar', '');
      await docker('save', '-o', archive, name);
      await docker('rmi', name);
      assert.match(await docker('load', '-i', archive), /Loaded image: .*app:1/);
      assert.match(await idOf('--platform', `linux/${foreign}`), new RegExp(`${foreign}$`, 'm'));
      assert.match(await refused('rmi', '--platform', `linux/${foreign}`, name), /Use --force to force delete/);
      await docker('rmi', '--force', '--platform', `linux/${foreign}`, name);
      assert.match(
        await refused('image', 'inspect', '--platform', `linux/${foreign}`, name),
        /was found but does not provide the specified platform/,
      );
      assert.deepEqual(await list(), [name]);
    });

    await t.test('Pods start from it on every node', async () => {
      await machine.kube('create', 'deployment', 'app', `--image=${name}`, '--replicas=4');
      await machine.kube('rollout', 'status', 'deployment/app', '--timeout=90s');
      const nodes = await machine.kube('get', 'pods', '-l', 'app=app', '-o', 'jsonpath={.items[*].spec.nodeName}');
      assert.equal(new Set(nodes.split(' ')).size, 2);
      assert.match(await refused('rmi', '-f', name), /image is being used by running container/);
      await machine.kube('delete', 'deployment', 'app', '--wait=true');
    });
    assert.equal((await machine.tiphys(['down'])).code, 0);
    assert.deepEqual(machine.leftovers(), []);
  },
);
