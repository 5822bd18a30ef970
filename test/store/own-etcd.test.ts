/** The cluster's own etcd, as a server keeps it: certificates, members that come and go, space that ends and returns. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createKeyRing } from '#apiserver/keys.ts';
import { isReason } from '#base/errors.ts';
import { silentLogger } from '#observe/log.ts';
import { realClock, realRandom } from '#os/clock.real.ts';
import { addressOf, type EtcdChoice } from '#platform/cluster-store.ts';
import { addLearner, listAlarms, listMembers, promoteMember, readMemberState } from '#platform/etcd/admin.ts';
import {
  clientUrl,
  keepEtcdCertificate,
  ownEtcd,
  peerUrl,
  withEtcdAuthority,
  writeEtcdConfig,
} from '#platform/etcd/member.ts';
import { takeMemberOut } from '#platform/etcd/leave.ts';
import { keepMember } from '#platform/etcd/upkeep.ts';
import { writeKeyRing } from '#platform/identity.ts';
import type { EtcdMember, Instance } from '#platform/instance.ts';
import { files, type Paths } from '#platform/paths.ts';
import { EtcdClient } from '#store/etcd/client.ts';
import { openEtcdStore, isOutOfSpace } from '#store/etcd/etcd-store.ts';
import { methods } from '#store/etcd/requests.ts';
import { freePort } from '#os/test-port.ts';
import { etcdPrograms, noEtcd } from './etcd.ts';

const means = { random: realRandom, clock: realClock };

/** Of each server its data directory and member; all go with the test. */
class Servers implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'tiphys-own-etcd-'));
  readonly #children: ChildProcess[] = [];
  readonly #ring = createKeyRing(realRandom, realClock);

  async plan(name: string): Promise<{ paths: Paths; member: EtcdMember }> {
    const home = join(this.directory, name);
    const paths = { home, data: join(home, 'data'), run: join(home, 'run') };
    for (const path of [paths.data, paths.run]) mkdirSync(path, { recursive: true });
    writeKeyRing(paths, this.#ring);
    const ring = withEtcdAuthority(paths, this.#ring, means);
    this.#ring.etcd = ring.etcd;
    const [binary = ''] = etcdPrograms();
    const member = { name, address: '127.0.0.1', clientPort: await freePort(), peerPort: await freePort(), binary };
    keepEtcdCertificate(paths, member, ring, means);
    return { paths, member };
  }

  start(paths: Paths, { binary }: EtcdMember): void {
    this.#children.push(spawn(binary, ['--config-file', files.etcdConfig(paths)], { stdio: 'ignore' }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = new Promise((resolve) => child.once('close', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const waitMsMax = 120_000;

/** Looks again until it fits. */
async function eventually<T>(ask: () => Promise<T>, fits: (value: T) => boolean): Promise<T> {
  const deadline = realClock.monotonic() + waitMsMax;
  for (;;) {
    const isLate = realClock.monotonic() > deadline;
    try {
      const value = await ask();
      if (fits(value)) return value;
      assert.ok(!isLate, 'it does not come');
    } catch (error) {
      // It has not begun yet, or has not caught up.
      if (isLate || !isReason(error, 'ServiceUnavailable', 'Conflict')) throw error;
    }
    await realClock.sleep(100);
  }
}

const instanceOf = (member: EtcdMember, etcd: EtcdChoice): Instance => ({ member, etcd }) as Instance;

test('space that ends is told by an alarm, and returns by itself once there is less', { skip: noEtcd }, async () => {
  await using servers = new Servers();
  const { paths, member } = await servers.plan('m0');
  writeEtcdConfig(paths, member, { initial: [`m0=${peerUrl(member)}`], state: 'new' });
  const config: unknown = JSON.parse(readFileSync(files.etcdConfig(paths), 'utf8'));
  writeFileSync(files.etcdConfig(paths), JSON.stringify(Object.assign({}, config, { 'quota-backend-bytes': 90e6 })));
  servers.start(paths, member);
  const etcd = ownEtcd(paths, [clientUrl(member)]);
  await eventually(
    () => listMembers(etcd),
    (members) => members[0]?.name === 'm0',
  );
  await using store = await openEtcdStore({ address: addressOf(etcd), ...means, log: silentLogger });
  const value = Buffer.alloc(2 ** 20, 'x');
  const put = (n: number) => store.txn([], [{ type: 'put', key: `/full/${n}`, value }]);
  let written = 0;
  await assert.rejects(async () => {
    for (; written < 200; written++) await put(written);
  }, isOutOfSpace);
  assert.deepEqual(
    (await listAlarms(etcd)).map(({ type }) => type),
    ['NOSPACE'],
  );
  using _kept = keepMember({ paths, instance: instanceOf(member, etcd), store, ...means, log: silentLogger });
  for (let n = 0; n < written; n++) await store.txn([], [{ type: 'delete', key: `/full/${n}` }]);
  await store.compact(store.currentRevision());
  await eventually(
    () => listAlarms(etcd),
    (alarms) => alarms.length === 0,
  );
  await put(0);
  await eventually(
    () => readMemberState(etcd, clientUrl(member)),
    ({ sizeBytes }) => sizeBytes < 45e6,
  );
});

test(
  'a member without a certificate of the authority is refused; one comes as a learner and goes',
  { skip: noEtcd },
  async () => {
    await using servers = new Servers();
    const first = await servers.plan('m0');
    writeEtcdConfig(first.paths, first.member, { initial: [`m0=${peerUrl(first.member)}`], state: 'new' });
    servers.start(first.paths, first.member);
    const etcd = ownEtcd(first.paths, [clientUrl(first.member)]);
    await eventually(
      () => listMembers(etcd),
      (members) => members[0]?.name === 'm0',
    );
    const { cert: _cert, key: _key, ...stranger } = addressOf(etcd).tls ?? {};
    const client = new EtcdClient({ endpoints: etcd.endpoints, tls: stranger, clock: realClock, log: silentLogger });
    await assert.rejects(client.read(methods.range, { key: Buffer.of(0) }));
    await client.close();

    const second = await servers.plan('m1');
    await addLearner(etcd, peerUrl(second.member));
    const initial = [first, second].map(({ member }) => `${member.name}=${peerUrl(member)}`);
    writeEtcdConfig(second.paths, second.member, { initial, state: 'existing' });
    servers.start(second.paths, second.member);
    const listed = await eventually(
      () => listMembers(etcd),
      (members) => members.some(({ name, isLearner }) => name === 'm1' && isLearner),
    );
    const { id = '' } = listed.find(({ name }) => name === 'm1') ?? {};
    await eventually(
      () => promoteMember(etcd, id).then(() => true),
      () => true,
    );
    await takeMemberOut(first.paths, instanceOf(first.member, etcd), 'm1');
    assert.deepEqual(
      (await listMembers(etcd)).map(({ name }) => name),
      ['m0'],
    );
  },
);
