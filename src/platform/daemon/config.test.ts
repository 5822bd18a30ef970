import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { loadConfig } from './config.ts';
import { parseFlags } from './flags.ts';
import { parseHost, showHost } from './hosts.ts';
import { daemonOptions, keyOf } from './options.ts';
import { mergeReload } from './reload.ts';
import { networkSettingsOf, settingsOf } from './settings.ts';

/** The flags beside a file with this text. */
function load(t: TestContext, words: string[], file?: unknown): ReturnType<typeof loadConfig> {
  const home = mkdtempSync('/tmp/tiphys-config-');
  t.after(() => rmSync(home, { recursive: true }));
  const path = `${home}/daemon.json`;
  if (file !== undefined) writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
  return loadConfig(
    parseFlags([...words, ...(file === undefined ? ['--config-file=/dev/null'] : ['--config-file', path])]),
  );
}

test('flags are read as pflag reads them, with its words for what is wrong', (t) => {
  const config = load(t, ['-DH', 'tcp://:2375', '-H=fd://', '--icc=false', '--label=a=b', '--label', 'c=d', '-lwarn']);
  assert.equal(config.bool('debug'), true);
  assert.deepEqual(config.list('hosts'), ['tcp://:2375', 'fd://']);
  assert.equal(config.bool('icc'), false);
  assert.deepEqual(config.list('labels'), ['a=b', 'c=d']);
  assert.equal(config.text('log-level'), 'warn');
  const wrong: [string[], RegExp][] = [
    [['--nope'], /^unknown flag: --nope$/],
    [['-x'], /^unknown shorthand flag: 'x' in -x$/],
    [['--mtu'], /^flag needs an argument: --mtu$/],
    [['--mtu=x'], /^invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax$/],
    [['--icc=maybe'], /strconv.ParseBool: parsing "maybe": invalid syntax$/],
    [['--default-ulimit', 'nofile'], /invalid ulimit argument: nofile/],
    [['word'], /^"tiphys engine" accepts no arguments.$/],
  ];
  for (const [words, message] of wrong) assert.throws(() => parseFlags(words), { message });
});

test('a file is read with the types of its keys, nested options too', (t) => {
  const config = load(t, [], {
    hosts: ['unix:///x'],
    'log-opts': { 'max-size': '10m' },
    'default-ulimits': { nofile: { Name: 'nofile', Soft: 10, Hard: 20 } },
    'default-address-pools': [{ base: '10.9.0.0/16', size: 24 }],
    'default-shm-size': '128M',
    proxies: { 'http-proxy': 'http://p:1' },
    features: { buildkit: false },
    bip: '172.30.1.1/24',
    ipv6: true,
    'fixed-cidr-v6': 'fd00:30::/64',
    'userland-proxy': false,
    icc: false,
    dns: ['1.1.1.1'],
  });
  const settings = settingsOf(config, []);
  assert.deepEqual(settings.containers.ulimits, [{ name: 'nofile', soft: 10, hard: 20 }]);
  assert.equal(settings.containers.shmSizeBytes, 128 * 2 ** 20);
  assert.equal(settings.proxies.http, 'http://p:1');
  assert.equal(settings.builderVersion, '1');
  const networks = networkSettingsOf(config);
  assert.deepEqual(networks.pools, [{ base: '10.9.0.0/16', length: 24 }]);
  assert.equal(networks.bridge?.address, '172.30.1.1/24');
  assert.deepEqual(networks.bridge?.ipv6, { range: 'fd00:30::/64' });
  assert.equal(networks.relay, false);
  assert.equal(networks.bridge?.options?.['com.docker.network.bridge.enable_icc'], 'false');
});

test('what a file says wrongly, twice or of unknown things is refused in dockerd’s words', (t) => {
  const wrong: [unknown, RegExp, string[]?][] = [
    [{ nope: 1, also: 2 }, /the following directives don't match any configuration option: nope, also$/],
    [
      { labels: ['c=d'], debug: true },
      /specified both as a flag and in the configuration file: labels: \(from flag: \[a=b\], from file: \[c=d\]\), debug: \(from flag: true, from file: true\)$/,
      ['--label', 'a=b', '-D'],
    ],
    [{ hosts: ['fd://'] }, /hosts: \(from flag: \[unix:\/\/\/x\], from file: \[fd:\/\/\]\)/, ['-H', 'unix:///x']],
    [
      { 'http-proxy': 'http://u:secret@p' },
      /from flag: http:\/\/xxxxx:xxxxx@q, from file: http:\/\/xxxxx:xxxxx@p/,
      ['--http-proxy=http://u:s@q'],
    ],
    [{ debug: 'yes' }, /json: cannot unmarshal string into Go struct field Config.debug of type bool$/],
    [{ mtu: 1.5 }, /cannot unmarshal number into Go struct field Config.mtu of type int/],
    ['{"debug": true,}', /unable to configure the Docker daemon with file .*: invalid character '}'/],
    ['{"debug": tr', /unexpected EOF|invalid character/],
    ['[]', /cannot unmarshal array into Go value/],
    [{ 'log-level': 'loud' }, /^invalid logging level: loud$/],
    [{ labels: ['a=1', 'a=2'] }, /^conflict labels for a=2 and a=1$/],
    [{ 'registry-mirrors': ['mirror:5000'] }, /^invalid mirror: no scheme specified for "mirror:5000"/],
    [{ 'registry-mirrors': ['http://u:p@m'] }, /username\/password not allowed in URI "http:\/\/u:xxxxx@m"/],
    [{ hosts: ['npipe:////./x'] }, /unsupported proto 'npipe'/],
    [{ 'max-concurrent-downloads': -1 }, /^invalid max concurrent downloads: -1$/],
    [{ 'selinux-enabled': true }, /^selinux-enabled is not supported: /],
    [{ 'storage-driver': 'btrfs' }, /^storage-driver is not supported: /],
    [
      { runtimes: { kata: { runtimeType: 'io.containerd.kata.v2' } } },
      /^runtimes \(--add-runtime\) is not supported: /,
    ],
    [{ runtimes: { empty: {} } }, /^runtime empty: either a runtimeType or a path must be configured/],
    [{ runtimes: { runc: { path: '/r' } } }, /^runtime name 'runc' is reserved/],
    [{ 'default-runtime': 'other' }, /^specified default runtime 'other' does not exist/],
    [{ ip6tables: false }, /^ip6tables is not supported without iptables: /],
    [{ bridge: 'br9', bip: '10.9.0.1/24' }, /mutually exclusive options/],
    [{ 'host-gateway-ip': '1.2.3.4', 'host-gateway-ips': ['1.2.3.4'] }, /must not both be specified/],
    [{ 'default-ipc-mode': 'host' }, /use "shareable" or "private"/],
  ];
  for (const [file, message, words = []] of wrong) assert.throws(() => load(t, words, file), { message });
  assert.throws(() => loadConfig(parseFlags(['--config-file=/nonexistent/x.json'])), { message: /no such file/ });
});

test('each option is honoured, or gives a reason, and its default is never refused', () => {
  const keys = daemonOptions.map(keyOf);
  assert.equal(new Set(keys).size, keys.length);
  const empty: Record<string, unknown> = {
    bool: false,
    string: '',
    int: 0,
    list: [],
    maps: {},
    runtimes: {},
  };
  for (const option of daemonOptions) {
    if (option.refuse === undefined || option.flag === undefined) continue;
    const value = option.value ?? empty[option.kind];
    assert.equal(option.refuse(value), undefined, keyOf(option));
  }
});

test('addresses are dockerd’s', () => {
  const shown = (text: string, tls = false): string => showHost(parseHost(text, tls));
  assert.equal(shown(''), 'unix:///var/run/docker.sock');
  assert.equal(shown('unix://'), 'unix:///var/run/docker.sock');
  assert.equal(shown('tcp://'), 'tcp://127.0.0.1:2375');
  assert.equal(shown('', true), 'tcp://127.0.0.1:2376');
  assert.equal(shown('0.0.0.0:80'), 'tcp://0.0.0.0:80');
  assert.equal(shown('tcp://[::1]:80'), 'tcp://[::1]:80');
  assert.equal(shown('fd://docker.socket'), 'fd://docker.socket');
  for (const text of [
    'tcp://a:x',
    'tcp://a:0',
    'tcp://a:70000',
    'tcp://a/b',
    'http://a',
    'unix://tcp://x',
    'tcp://::1:80',
  ])
    assert.throws(() => parseHost(text, false), { message: /invalid bind address/ }, text);
});

test('a reload changes what dockerd changes, and nothing else', (t) => {
  const before = load(t, [], { debug: true, labels: ['a=b'], 'max-concurrent-downloads': 9, bip: '10.1.1.1/24' });
  const after = mergeReload(before, load(t, [], { labels: ['c=d'], bip: '10.2.2.2/24', 'shutdown-timeout': 3 }));
  assert.deepEqual(after.list('labels'), ['c=d']);
  assert.equal(after.bool('debug'), true);
  assert.equal(after.number('max-concurrent-downloads'), 3);
  assert.equal(after.number('shutdown-timeout'), 3);
  assert.equal(after.text('bip'), '10.1.1.1/24');
});
