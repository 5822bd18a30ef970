/** What versions 1.52 to 1.56 of the Engine API say otherwise than 1.51, each asked of one daemon. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ask, importBusybox, makeDaemon, type TestDaemon } from './daemon.ts';

type Shown = Record<string, unknown>;

/** A parsed answer, which must be no error. */
async function answer(daemon: TestDaemon, minor: number, call: string, sent?: unknown): Promise<Shown> {
  const [method = '', path = ''] = call.split(' ');
  const { status, body } = await ask(daemon.home, method, `/v1.${minor}${path}`, sent);
  assert.ok(status < 400, `${call}: ${body}`);
  return body === '' ? {} : (JSON.parse(body) as Shown);
}

async function withBusybox(t: Parameters<typeof makeDaemon>[0]): Promise<TestDaemon> {
  const daemon = await makeDaemon(t);
  await daemon.start();
  await importBusybox(daemon);
  return daemon;
}

test('what is deprecated is shown to old clients alone', async (t) => {
  const daemon = await withBusybox(t);
  await daemon.ok('run', '-d', '--name', 'one', 'busybox', 'sleep', '1000');
  const inspect = async (minor: number): Promise<{ NetworkSettings: Shown; Config: Shown }> =>
    (await answer(daemon, minor, 'GET /containers/one/json')) as never;
  const [old, today] = [await inspect(51), await inspect(52)];
  const bridge = (old.NetworkSettings['Networks'] as Record<string, Shown>)['bridge']!;
  assert.equal(old.NetworkSettings['IPAddress'], bridge['IPAddress']);
  assert.deepEqual(Object.keys(today.NetworkSettings).sort(), ['Networks', 'Ports', 'SandboxID', 'SandboxKey']);
  assert.ok('OnBuild' in old.Config && !('OnBuild' in today.Config));
  const image = async (minor: number): Promise<Shown> => answer(daemon, minor, 'GET /images/busybox/json');
  assert.equal((await image(51))['Author'], '');
  assert.ok(!('Author' in (await image(52))));
  assert.equal(((await image(51))['Config'] as Shown)['OnBuild'], null);
  assert.ok(!('OnBuild' in ((await image(52))['Config'] as Shown)));
  const row = async (minor: number): Promise<Shown> =>
    ((await answer(daemon, minor, 'GET /containers/json')) as unknown as Shown[])[0]!;
  assert.ok(!('Health' in (await row(51))));
  assert.deepEqual((await row(52))['Health'], { Status: 'none', FailingStreak: 0 });
});

test('disk usage is summed up since 1.52, with its lists for who asks for them', async (t) => {
  const daemon = await withBusybox(t);
  await daemon.ok('run', '--name', 'one', '-v', 'kept:/v', 'busybox', 'sh', '-c', 'echo 1234 > /v/f; echo 12 > /g');
  const old = await answer(daemon, 51, 'GET /system/df');
  assert.deepEqual(Object.keys(old), ['LayersSize', 'Images', 'Containers', 'Volumes', 'BuildCache']);
  const both = await answer(daemon, 52, 'GET /system/df');
  assert.equal((both['Images'] as Shown[]).length, 1);
  const { Reclaimable: idle, ...container } = both['ContainerUsage'] as Shown;
  assert.deepEqual(container, { TotalCount: 1, TotalSize: idle });
  const { Reclaimable: _reclaimable, TotalSize: bytes, ...volume } = both['VolumeUsage'] as Shown;
  assert.deepEqual(volume, { ActiveCount: 1, TotalCount: 1 });
  assert.ok((bytes as number) >= 5);
  const whole = await answer(daemon, 52, 'GET /system/df?verbose=1');
  assert.ok(!('Images' in whole));
  const images = whole['ImageUsage'] as Shown;
  assert.equal((images['Items'] as Shown[]).length, 1);
  assert.equal(images['TotalSize'], old['LayersSize']);
});

test('a network says how many of its addresses are taken', async (t) => {
  const daemon = await withBusybox(t);
  await daemon.ok('network', 'create', '--subnet', '10.199.7.0/24', '--ip-range', '10.199.7.128/25', 'counted');
  await daemon.ok('network', 'create', '--ipv6', '--ipv4=false', '--subnet', 'fd00:199::/56', 'huge');
  await daemon.ok('run', '-d', '--network', 'counted', 'busybox', 'sleep', '1000');
  assert.ok(!('Status' in (await answer(daemon, 51, 'GET /networks/counted'))));
  // Its name and the broadcast address, the gateway and the container; of the range the last three.
  assert.deepEqual((await answer(daemon, 52, 'GET /networks/counted'))['Status'], {
    IPAM: { Subnets: { '10.199.7.0/24': { IPsInUse: 4, DynamicIPsAvailable: 125 } } },
  });
  const { body } = await ask(daemon.home, 'GET', '/v1.52/networks/huge');
  assert.match(body, /"fd00:199::\/56":\{"IPsInUse":2,"DynamicIPsAvailable":18446744073709551615\}/);
});

test('events come in the format that was asked for, and without the old fields', async (t) => {
  const daemon = await withBusybox(t);
  await daemon.ok('run', '--rm', 'busybox', 'true');
  const filters = encodeURIComponent('{"type":["container"]}');
  const events = async (minor: number): Promise<{ first: Shown; type: string }> => {
    const until = Math.ceil(Date.now() / 1000);
    const path = `/v1.${minor}/events?since=1&until=${until}&filters=${filters}`;
    const { body, type } = await ask(daemon.home, 'GET', path);
    return { first: JSON.parse(body.split('\n')[0]!) as Shown, type };
  };
  const [old, today] = [await events(51), await events(52)];
  assert.equal(old.type, 'application/json');
  assert.equal(today.type, 'application/jsonl');
  assert.ok('status' in old.first && 'from' in old.first);
  assert.ok(!('status' in today.first) && !('from' in today.first));
});

test('a umask is the process’s, and that of commands in the container, since 1.56', async (t) => {
  const daemon = await withBusybox(t);
  const create = async (minor: number, name: string, host: Shown): Promise<Shown> =>
    answer(daemon, minor, `POST /containers/create?name=${name}`, {
      Image: 'busybox',
      Cmd: ['sh', '-c', 'umask; exec sleep 1000'],
      HostConfig: host,
    });
  await create(56, 'masked', { Umask: 0o77 });
  await create(55, 'plain', { Umask: 0o77 });
  await daemon.ok('start', 'masked', 'plain');
  assert.equal(await daemon.ok('exec', 'masked', 'sh', '-c', 'umask'), '0077');
  assert.equal(await daemon.ok('exec', '-u', '5', 'masked', 'sh', '-c', 'umask'), '0077');
  assert.equal(await daemon.ok('exec', 'plain', 'sh', '-c', 'umask'), '0022');
  assert.equal(await daemon.ok('logs', 'masked'), '0077');
  const shown = async (minor: number): Promise<unknown> =>
    ((await answer(daemon, minor, 'GET /containers/masked/json'))['HostConfig'] as Shown)['Umask'];
  assert.deepEqual([await shown(55), await shown(56)], [undefined, 0o77]);
});

test('a create of version 1.52 passes over a MAC address of the whole container, and warns of ports without a binding', async (t) => {
  const daemon = await withBusybox(t);
  const made = await answer(daemon, 52, 'POST /containers/create?name=one', {
    Image: 'busybox',
    Cmd: ['sleep', '1000'],
    MacAddress: '02:42:00:00:00:07',
    HostConfig: { PortBindings: { '80/tcp': [] } },
  });
  assert.deepEqual(made['Warnings'], [
    'Following container port(s) have an empty list of port-bindings: 80/tcp. Such bindings will be discarded in a future version.',
  ]);
  await daemon.ok('start', 'one');
  assert.notEqual(await daemon.ok('exec', 'one', 'cat', '/sys/class/net/eth0/address'), '02:42:00:00:00:07');
  await daemon.ok('network', 'create', 'second');
  const connect = async (minor: number): Promise<string> => {
    await answer(daemon, minor, 'POST /networks/second/connect', {
      Container: 'one',
      EndpointConfig: { MacAddress: '02:42:00:00:00:08' },
    });
    const mac = await daemon.ok('exec', 'one', 'cat', '/sys/class/net/eth1/address');
    await daemon.ok('network', 'disconnect', 'second', 'one');
    return mac;
  };
  assert.notEqual(await connect(53), '02:42:00:00:00:08');
  assert.equal(await connect(54), '02:42:00:00:00:08');
});

test('rules of single block devices change while the container runs, since 1.55', async (t) => {
  const daemon = await withBusybox(t);
  await daemon.ok('run', '-d', '--name', 'one', 'busybox', 'sleep', '1000');
  const device = readdirSync('/sys/block').find((name) => !/^(loop|ram|zram|dm-)/.test(name)) ?? 'loop0';
  const path = `/dev/${device}`;
  const number = readFileSync(`/sys/block/${device}/dev`, 'utf8').trim();
  const update = async (minor: number, sent: Shown): Promise<string> =>
    JSON.stringify((await answer(daemon, minor, 'POST /containers/one/update', sent))['Warnings']);
  const rules = async (): Promise<string> => {
    const files = '/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device /sys/fs/cgroup/io.max';
    return (await daemon.docker('exec', 'one', 'sh', '-c', `cat ${files} 2> /dev/null; true`)).stdout;
  };
  assert.match(await update(54, { BlkioDeviceReadBps: [{ Path: path, Rate: 1_000_000 }] }), /discarded/);
  assert.doesNotMatch(await rules(), /1000000/);
  const warnings = await update(55, { BlkioDeviceReadBps: [{ Path: path, Rate: 1_000_000 }] });
  if (/does not support/.test(warnings)) return;
  assert.match(await rules(), new RegExp(`${number} (rbps=)?1000000`));
  const shown = async (): Promise<unknown> =>
    ((await answer(daemon, 55, 'GET /containers/one/json'))['HostConfig'] as Shown)['BlkioDeviceReadBps'];
  assert.deepEqual(await shown(), [{ Path: path, Rate: 1_000_000 }]);
  await update(55, { BlkioDeviceReadBps: null, BlkioDeviceWriteBps: [] });
  assert.match(await rules(), /1000000/);
  await update(55, { BlkioDeviceReadBps: [] });
  assert.doesNotMatch(await rules(), /1000000/);
  assert.deepEqual(await shown(), []);
});
