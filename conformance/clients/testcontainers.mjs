/**
 * What testcontainers.sh runs. Ryuk, which reaps what a run leaves, has no module to build it from: TESTCONTAINERS_RYUK_DISABLED
 * is set unless an image of its name is there.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const hasRyuk = (() => {
  try {
    execFileSync('docker', ['image', 'inspect', 'testcontainers/ryuk:0.14.0'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
if (!hasRyuk) process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
const require = createRequire(`${process.env.CLIENT_WORK}/`);
const { DockerComposeEnvironment, GenericContainer, Network, Wait } = require('testcontainers');
const server = ['sh', '-c', 'echo ready to serve; mkdir -p /w; echo hello >/w/index.html; httpd -f -p 80 -h /w'];

test('a port that is listened on, HTTP, a line of the log, a command, health: each is waited for', async () => {
  const strategies = [
    Wait.forListeningPorts(),
    Wait.forHttp('/index.html', 80),
    Wait.forLogMessage(/ready to serve/),
    Wait.forSuccessfulCommand('ls /w/index.html'),
    Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage('ready to serve')]),
    Wait.forHealthCheck(),
  ];
  for (const strategy of strategies) {
    const container = await new GenericContainer('busybox')
      .withCommand(server)
      .withExposedPorts(80)
      .withHealthCheck({ test: ['CMD-SHELL', 'ls /w/index.html'], interval: 200, retries: 20, timeout: 1000 })
      .withWaitStrategy(strategy)
      .withStartupTimeout(20_000)
      .start();
    const url = `http://${container.getHost()}:${container.getMappedPort(80)}/index.html`;
    assert.equal(await (await fetch(url)).text(), 'hello\n');
    await container.stop();
  }
});

test('files and contents are copied in and archives out; commands are carried out; logs are read', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'tc-')), 'f');
  writeFileSync(file, 'from a file');
  const container = await new GenericContainer('busybox')
    .withCommand(['sh', '-c', 'cat /copied /given; sleep 100'])
    .withCopyFilesToContainer([{ source: file, target: '/copied' }])
    .withCopyContentToContainer([{ content: 'given', target: '/given', mode: 0o600 }])
    .withEnvironment({ A: 'b' })
    .withTmpFs({ '/t': 'rw,size=1m' })
    .withLabels({ of: 'testcontainers' })
    .withUser('0:0')
    .withWorkingDir('/bin')
    .withResourcesQuota({ memory: 0.1, cpu: 0.5 })
    .withUlimits({ nofile: { soft: 100, hard: 200 } })
    .start();
  const { output, exitCode } = await container.exec(['sh', '-c', 'echo $A; pwd; ulimit -n; stat -c %a /given; exit 4']);
  assert.deepEqual([output, exitCode], ['b\n/bin\n100\n600\n', 4]);
  const logs = await container.logs();
  let text = '';
  for await (const chunk of logs) {
    text += chunk;
    if (text.includes('given')) break;
  }
  assert.match(text, /from a filegiven/);
  await container.copyContentToContainer([{ content: 'later', target: '/later' }]);
  let archive = '';
  for await (const chunk of await container.copyArchiveFromContainer('/later')) archive += chunk;
  assert.match(archive, /later/);
  await container.restart();
  await container.stop();
});

test('containers of a network reach each other by alias', async () => {
  const network = await new Network().start();
  const web = await new GenericContainer('busybox')
    .withCommand(server)
    .withNetwork(network)
    .withNetworkAliases('web')
    .withWaitStrategy(Wait.forLogMessage('ready to serve'))
    .start();
  const client = await new GenericContainer('busybox').withCommand(['sleep', '100']).withNetwork(network).start();
  const { output } = await client.exec(['sh', '-c', 'for i in 1 2 3; do ping -c 1 -W 2 web && break; done']);
  assert.match(output, /1 packets received/);
  await client.stop();
  await web.stop();
  await network.stop();
});

test('an image is built from a Dockerfile, with arguments, and one is committed', async () => {
  const context = mkdtempSync(join(tmpdir(), 'tc-'));
  writeFileSync(join(context, 'Dockerfile'), 'FROM busybox\nARG A\nRUN echo $A >/a\nCMD ["sleep", "100"]\n');
  const image = await GenericContainer.fromDockerfile(context).withBuildArgs({ A: 'arg' }).build();
  const container = await image.start();
  assert.equal((await container.exec(['cat', '/a'])).output, 'arg\n');
  await container.commit({ repo: 'tc-committed', tag: 'one', deleteOnExit: false });
  await container.stop();
  execFileSync('docker', ['rmi', 'tc-committed:one']);
});

test('a container is used again', async () => {
  const start = () => new GenericContainer('busybox').withCommand(['sleep', '100']).withReuse().start();
  const [one, two] = [await start(), await start()];
  assert.equal(one.getId(), two.getId());
  await one.stop();
});

test('a compose file is brought up and down', async (t) => {
  try {
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' });
  } catch {
    t.skip('compose is not installed');
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'tc-'));
  const file = 'services:\n  web:\n    image: busybox\n    command: sh -c "echo up; sleep 100"\n';
  writeFileSync(join(directory, 'compose.yaml'), file);
  const environment = await new DockerComposeEnvironment(directory, 'compose.yaml')
    .withWaitStrategy('web-1', Wait.forLogMessage('up'))
    .up();
  assert.equal((await environment.getContainer('web-1').exec(['echo', 'in'])).output, 'in\n');
  await environment.down();
});
