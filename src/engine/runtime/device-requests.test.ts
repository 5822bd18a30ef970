import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import type { DeviceRequest } from '../engine.ts';
import { readCdiDevices } from '../cdi-devices.ts';
import { applyDeviceRequests } from './device-requests.ts';

function directoryOf(t: TestContext, files: Record<string, string>): string {
  const directory = mkdtempSync('/tmp/tiphys-cdi-');
  t.after(() => rmSync(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(`${directory}/${name}`, text);
  return directory;
}

const spec = `
cdiVersion: 0.6.0
kind: vendor.test/thing
containerEdits:
  env: [ALL=1]
devices:
  - name: zero
    containerEdits:
      env: [PATH=/there, OWN=0]
      deviceNodes:
        - {path: /dev/thing0, hostPath: /dev/zero, permissions: r}
        - {path: /dev/thing1, type: b, major: 7, minor: 9, uid: 5}
      mounts:
        - {hostPath: /usr, containerPath: /thing, options: [ro, bind]}
      hooks:
        - {hookName: createContainer, path: /bin/hook, args: [hook, x]}
      additionalGids: [77, 0]
  - name: other
    containerEdits: {env: [OTHER=1]}
`;
const gpus = JSON.stringify({
  cdiVersion: '0.6.0',
  kind: 'nvidia.com/gpu',
  devices: ['0', '1', 'all'].map((name) => ({ name, containerEdits: { env: [`GPU_${name}=1`] } })),
});
const request = (given: Partial<DeviceRequest>): DeviceRequest => ({
  driver: 'cdi',
  count: 0,
  ids: [],
  capabilities: [],
  options: {},
  ...given,
});
const configuration = (): Record<string, unknown> => ({
  process: { env: ['PATH=/bin', 'A=b'], user: { uid: 3, gid: 0, additionalGids: [1] } },
  mounts: [{ destination: '/thing' }, { destination: '/proc' }],
  linux: { devices: [], resources: { devices: [{ allow: false }] } },
});

test('a device’s edits, and those of its file once, go into the configuration', (t) => {
  const directory = directoryOf(t, { 'a.yaml': spec });
  const made = configuration();
  const ids = ['vendor.test/thing=zero', 'vendor.test/thing=other'];
  applyDeviceRequests(made, [request({ ids })], [directory]);
  assert.deepEqual(made, {
    process: {
      env: ['A=b', 'ALL=1', 'PATH=/there', 'OWN=0', 'OTHER=1'],
      user: { uid: 3, gid: 0, additionalGids: [1, 77] },
    },
    mounts: [
      { destination: '/proc' },
      { destination: '/thing', source: '/usr', type: 'bind', options: ['ro', 'bind'] },
    ],
    hooks: { createContainer: [{ path: '/bin/hook', args: ['hook', 'x'] }] },
    linux: {
      devices: [
        { path: '/dev/thing0', type: 'c', major: 1, minor: 5, fileMode: 0o666, uid: 3, gid: 0 },
        { path: '/dev/thing1', type: 'b', major: 7, minor: 9, uid: 5, gid: 0 },
      ],
      resources: {
        devices: [
          { allow: false },
          { allow: true, type: 'c', major: 1, minor: 5, access: 'r' },
          { allow: true, type: 'b', major: 7, minor: 9, access: 'rwm' },
        ],
      },
    },
  });
});

test('graphics processors are their vendor’s devices: all, so many, or by id', (t) => {
  const directory = directoryOf(t, { 'gpu.json': gpus });
  const cases: [Partial<DeviceRequest>, string[]][] = [
    [{ driver: '', count: -1, capabilities: [['gpu']] }, ['GPU_all=1']],
    [{ driver: '', count: 2, capabilities: [['gpu', 'compute']] }, ['GPU_0=1', 'GPU_1=1']],
    [{ driver: 'nvidia', ids: ['1'] }, ['GPU_1=1']],
  ];
  for (const [given, expected] of cases) {
    const made: Record<string, unknown> = {};
    applyDeviceRequests(made, [request(given)], [directory]);
    assert.deepEqual(made['process'], { env: expected });
  }
});

test('what cannot be had is refused in dockerd’s words', (t) => {
  const directory = directoryOf(t, { 'a.yaml': spec });
  const gpu = { driver: '', count: -1, capabilities: [['gpu']] };
  const cases: [Partial<DeviceRequest>, string[], RegExp][] = [
    [
      { ids: ['v.test/x=y', 'a=b'] },
      [directory],
      /^CDI device injection failed: unresolvable CDI devices v.test\/x=y, a=b$/,
    ],
    [{ ids: ['vendor.test/thing=zero'] }, [], /^could not select device driver "cdi" with capabilities: \[\]$/],
    [gpu, [directory], /^could not select device driver "" with capabilities: \[\[gpu\]\]$/],
    [{ count: 1 }, [directory], /^unexpected count in CDI device request$/],
  ];
  for (const [given, directories, message] of cases)
    assert.throws(() => applyDeviceRequests({}, [request(given)], directories), { message });
});

test('a later directory’s device counts, one that is there twice does not, and broken files are told', (t) => {
  const device = (value: string): string =>
    JSON.stringify({ cdiVersion: '1', kind: 'v.test/x', devices: [{ name: 'a', containerEdits: { env: [value] } }] });
  const first = directoryOf(t, {
    'a.json': device('first=1'),
    'b.json': '{',
    'c.json': '{"cdiVersion": "1", "kind": "x"}',
  });
  const second = directoryOf(t, { 'a.json': device('second=1') });
  const { devices, errors } = readCdiDevices([first, second, '/nowhere']);
  assert.deepEqual(devices.get('v.test/x=a')?.edits, { env: ['second=1'] });
  assert.deepEqual(
    errors.map(({ path }) => path.slice(-6)),
    ['b.json', 'c.json'],
  );
  writeFileSync(`${second}/b.json`, device('again=1'));
  assert.equal(readCdiDevices([first, second]).devices.size, 0);
});
