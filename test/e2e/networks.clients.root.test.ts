/** Networks by the real client: both families, as it shows and reaches them, and what it is refused. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createMachine, expectDocker, run } from './machine.ts';
import type { Output } from './machine.ts';

test('networks with docker', { timeout: 180_000 }, async (t) => {
  await using machine = createMachine();
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await machine.tiphys(['down', '--purge']);
    assert.deepEqual(machine.leftovers(), []);
  });
  assert.equal((await machine.tiphys(['up'])).code, 0);
  const docker = (...args: string[]): Promise<Output> => machine.docker(...args);
  const { good, bad } = expectDocker(docker);
  await good('pull', '-q', 'busybox');
  const script = 'echo hello > /tmp/i; httpd -f -p 80 -h /tmp';

  await t.test('a port is shown and answered in both families, on the default bridge, too', async () => {
    await good('network', 'create', '--ipv6', 'dual');
    for (const network of ['dual', 'bridge']) {
      const name = `web-${network}`;
      await good('run', '-d', '--name', name, '--network', network, '-p', '80', 'busybox', 'sh', '-c', script);
      const [four = '', six = ''] = (await good('port', name, '80')).split('\n');
      assert.match(four, /^0\.0\.0\.0:\d+$/);
      assert.equal(six, four.replace('0.0.0.0', '[::]'));
      assert.ok((await good('ps', '--filter', `name=${name}`)).includes(`${four}->80/tcp, ${six}->80/tcp`));
      for (const place of [four.replace('0.0.0.0', '127.0.0.1'), six.replace('[::]', '[::1]')]) {
        const args = ['-s', '-g', '--retry', '20', '--retry-all-errors', '--retry-delay', '1', `http://${place}/i`];
        assert.equal((await run('curl', args)).stdout.trim(), 'hello', `${name} at ${place}`);
      }
    }
    const shown = await good('inspect', 'web-dual', '-f', '{{json .NetworkSettings.Networks.dual}}');
    assert.match(shown, /"IPv6Gateway":"fd[^"]*::1","GlobalIPv6Address":"fd[^"]*::2","GlobalIPv6PrefixLen":64/);
    assert.match(await good('network', 'inspect', 'dual'), /"EnableIPv6": true[^]*"IPv6Address": "fd[^"]*::2\/64"/);
    const asked = 'nslookup -type=aaaa web-dual && wget -T 5 -qO- http://web-dual/i';
    assert.match(await good('run', '--rm', '--network', 'dual', 'busybox', 'sh', '-c', asked), /Address: fd[^]*hello/);
  });

  await t.test('several networks, each with its settings; one comes later', async () => {
    await good('network', 'create', '--subnet', '10.213.1.0/24', 'one');
    const six = ['--ipv6', '--ipv4=false', '--subnet', 'fd00:213::/64', '--gateway', 'fd00:213::99'];
    await good('network', 'create', ...six, 'two');
    const first = 'name=one,alias=me,ip=10.213.1.7,driver-opt=com.docker.network.endpoint.ifname=uplink';
    const second = 'name=two,ip6=fd00:213::7,gw-priority=3,mac-address=02:42:00:00:00:77';
    await good('run', '-d', '--name', 'multi', '--network', first, '--network', second, 'busybox', 'sleep', '1000');
    const links = await good('exec', 'multi', 'sh', '-c', 'ip addr; ip route; ip -6 route');
    for (const part of ['uplink', '10.213.1.7/24', 'fd00:213::7/64', '02:42:00:00:00:77', 'default via fd00:213::99'])
      assert.ok(links.includes(part), `${part} in ${links}`);
    await good('network', 'connect', '--ip6', 'fd00:213::8', 'two', 'web-bridge');
    assert.match(await good('exec', 'web-bridge', 'ping', '-6', '-c', '1', 'multi'), /1 packets received/);
    await good('network', 'disconnect', 'two', 'web-bridge');
    await bad(/is not connected to network two/, 'network', 'disconnect', 'two', 'web-bridge');
    await bad(/has active endpoints/, 'network', 'rm', 'two');
  });

  await t.test('what cannot be is refused in the words of docker', async () => {
    const create = ['network', 'create'];
    await bad(/it should be fd00:1::\/64/, ...create, '--ipv6', '--subnet', 'fd00:1::5/64', 'x');
    await bad(/Pool overlaps with other one/, ...create, '--ipv6', '--subnet', 'fd00:213::/48', 'x');
    await bad(/IPv4 or IPv6 must be enabled/, ...create, '--ipv4=false', 'x');
    await bad(/doesn't support multiple subnets/, ...create, '--subnet', '10.1.0.0/24', '--subnet', '10.2.0.0/24', 'x');
    await bad(/not a swarm manager/, ...create, '-d', 'overlay', 'x');
    await bad(/loopback interface is not a valid macvlan parent/, ...create, '-d', 'macvlan', '-o', 'parent=lo', 'x');
    const running = ['run', '--rm', '--network'];
    await bad(/Address already in use/, ...running, 'one', '--ip', '10.213.1.7', 'busybox', 'true');
    await bad(/no configured subnet or ip-range/, ...running, 'one', '--ip', '10.9.9.9', 'busybox', 'true');
    await bad(/dns and the network mode/, ...running, 'container:multi', '--dns', '1.1.1.1', 'busybox', 'true');
    assert.doesNotMatch(await good('network', 'ls', '--format', '{{.Name}}'), /^x$/m);
  });
});
