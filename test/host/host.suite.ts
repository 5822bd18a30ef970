/**
 * The platform on a host as people have it: `npm run test:host`, as root; about half an hour, most of it the
 * emulation's. Needs debootstrap, qemu-system-x86, openssh-client, docker and kubectl on the host. Times are printed
 * and never asserted.
 */
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createMachine } from '../e2e/machine.ts';
import { Guest, guestAddress, hostAddress } from './guest.ts';

const clients =
  'export DOCKER_HOST=unix:///run/tiphys/docker.sock DOCKER_BUILDKIT=0 KUBECONFIG=/run/tiphys/admin.conf; cd /root/tiphys';
const group = '/sys/fs/cgroup/tiphys.slice/tiphys-containers.service';
/** Ends in order after two seconds, and says so. */
const orderly = `sh -c 'trap "sleep 2; echo ended in order; exit 0" TERM; while :; do sleep 1; done'`;
let guest: Guest;
const on = (command: string): string => guest.run(`${clients}; ${command}`);

async function until(what: string, look: () => string, wanted: RegExp, triesMax = 150): Promise<string> {
  for (let tries = 1; ; tries++) {
    const seen = look();
    if (wanted.test(seen)) return seen;
    if (tries === triesMax) throw new Error(`${what}: ${seen}`);
    await new Promise((done) => setTimeout(done, 2_000));
  }
}

const tryOn = (command: string): string => {
  const done = guest.try(`${clients}; ${command}`);
  return done.stdout + done.stderr;
};
const rolledOut = (): Promise<string> =>
  until(
    'roll-out',
    () => tryOn('kubectl -n demo get deployments,statefulsets --no-headers'),
    /^(?!.*\b0\/)(?=.*deployment\.apps\/web\s+(\d+)\/\1)(?=.*deployment\.apps\/api\s+(\d+)\/\2)/s,
  );

/** Images of the demo, made where there is a network; both versions. */
async function demoImages(directory: string): Promise<string> {
  await using machine = createMachine();
  assert.equal((await machine.tiphys(['up'], 300_000)).code, 0);
  const examples = join(import.meta.dirname, '../../examples/demo');
  const names = ['busybox:latest'];
  for (const [name, versions] of [
    ['web', ['v1', 'v2']],
    ['api', ['v1', 'v2']],
    ['store', ['v1']],
  ] as const) {
    for (const version of versions) {
      const tag = `127.0.0.1:5000/demo/${name}:${version}`;
      const built = await machine.docker(
        'build',
        '-q',
        '--build-arg',
        `VERSION=${version}`,
        '-t',
        tag,
        join(examples, name),
      );
      assert.equal(built.code, 0, built.stderr);
      names.push(tag);
    }
  }
  const file = join(directory, 'images.tar');
  const saved = await machine.docker('save', '-o', file, ...names);
  assert.equal(saved.code, 0, saved.stderr);
  return file;
}

before(async () => {
  guest = new Guest();
  const images = await demoImages(guest.directory);
  await guest.boot();
  guest.copy(images, '/root/images.tar');
});
after(async () => {
  await guest?.[Symbol.asyncDispose]();
});

test('up in a login session starts a unit, which outlives the session', () => {
  assert.match(guest.run('lsmod | grep -c overlay || true'), /^0/, 'the module is not there before');
  console.log(on('time ./tiphys up'));
  assert.equal(guest.run('systemctl is-active tiphys.service tiphys-containers.service'), 'active\nactive');
  assert.match(
    guest.run('cat /proc/$(cat /run/tiphys/processes/node-1.pid)/cgroup'),
    /\/system\.slice\/tiphys\.service$/m,
  );
  assert.match(on('docker load -i /root/images.tar'), /busybox:latest/);
});

test('containers and monitors lie in the delegated unit, with their limits and their profile', () => {
  on(`docker run -d --name orderly --restart unless-stopped -m 64m --pids-limit 50 busybox ${orderly}`);
  on('docker run -d --name web -p 8080:80 --restart always busybox httpd -f -p 80 -h /etc');
  assert.equal(guest.run(`cat ${group}/tiphys_*/docker/*/memory.max | grep -v max`), String(64 * 1024 * 1024));
  assert.equal(guest.run(`cat ${group}/tiphys_*/monitors/cgroup.procs | wc -l`), '2');
  assert.match(on('docker exec orderly cat /proc/1/attr/current'), /tiphys-default \(enforce\)/);
  assert.match(
    guest.try(`${clients}; docker run --rm --cap-add SYS_ADMIN busybox mount -t tmpfs x /tmp`).stderr,
    /denied|not permitted/i,
    'the profile forbids mounts',
  );
  assert.match(tryOn('docker run --rm -m 20m busybox sh -c "head -c 50m /dev/zero | tail"; echo code $?'), /code 137/);
  assert.equal(on('docker run --rm busybox echo alive'), 'alive', 'a container without memory ends alone');
});

test("the demo's application runs", async () => {
  on('kubectl apply -f examples/demo/manifests');
  await rolledOut();
  const port = on(`kubectl -n demo get svc web -o jsonpath='{.spec.ports[0].nodePort}'`);
  await until(
    'the application',
    () =>
      spawnSync(
        'ip',
        ['netns', 'exec', guest.namespace, 'curl', '-s', '-m', '5', `http://${guestAddress}:${port}/version`],
        { encoding: 'utf8' },
      ).stdout,
    /v1/,
  );
});

test('reload replaces the processes and touches no container', () => {
  const before = on('docker ps --no-trunc --format "{{.ID}} {{.State}}" | sort; cat /run/tiphys/processes/*.pid');
  guest.run('systemctl reload tiphys');
  const after = on('docker ps --no-trunc --format "{{.ID}} {{.State}}" | sort; cat /run/tiphys/processes/*.pid');
  const containers = (text: string): string =>
    text
      .split('\n')
      .filter((line) => line.includes(' '))
      .join('\n');
  assert.equal(containers(after), containers(before));
  assert.notEqual(after, before);
});

test('all processes of the platform killed: no container ends, and up mends it', () => {
  const before = on('docker ps -q | sort');
  guest.run('kill -9 $(cat /run/tiphys/processes/*.supervisor /run/tiphys/processes/*.pid)');
  on('./tiphys up');
  assert.equal(on('docker ps -q | sort'), before);
});

test('firewalls: containers and Pods reach out and are reached; what the user drops is dropped', async () => {
  mkdirSync(join(guest.directory, 'www'));
  writeFileSync(join(guest.directory, 'www/ok'), 'ok\n');
  const server = spawn(
    'ip',
    [
      'netns',
      'exec',
      guest.namespace,
      'busybox',
      'httpd',
      '-f',
      '-p',
      `${hostAddress}:9099`,
      '-h',
      join(guest.directory, 'www'),
    ],
    { stdio: 'ignore' },
  );
  try {
    on(
      'kubectl run client --image=busybox -- sleep 100000; kubectl wait --for=condition=Ready pod/client --timeout=300s',
    );
    const port = on(`kubectl -n demo get svc web -o jsonpath='{.spec.ports[0].nodePort}'`);
    const reaches = (words: string): string =>
      `printf 'GET /ok HTTP/1.0\\r\\n\\r\\n' | ${words} nc -w 10 ${hostAddress} 9099 | tail -1`;
    const fetch = (to: string): string =>
      spawnSync(
        'ip',
        [
          'netns',
          'exec',
          guest.namespace,
          'curl',
          '-s',
          '-o',
          '/dev/null',
          '-w',
          '%{http_code}',
          '-m',
          '5',
          `http://${guestAddress}:${to}`,
        ],
        { encoding: 'utf8' },
      ).stdout;
    const open = (what: string): void => {
      assert.equal(on(reaches('docker run --rm -i busybox')), 'ok', `${what}: a container reaches out`);
      assert.equal(on(reaches('kubectl exec -i client --')), 'ok', `${what}: a Pod reaches out`);
      assert.match(on('kubectl exec client -- nslookup web.demo.svc.cluster.local'), /Address/, `${what}: names`);
      assert.equal(fetch('8080/hostname'), '200', `${what}: a published port`);
      assert.equal(fetch(`${port}/version`), '200', `${what}: a node port`);
    };
    const closed = (what: string): void => assert.equal(fetch('8080/hostname'), '000', what);
    const again = (): string => on('./tiphys up --replace');
    open('no firewall');
    guest.run('iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 -j DROP');
    closed('a rule in DOCKER-USER');
    guest.run(
      'iptables -F DOCKER-USER; iptables -P FORWARD DROP; iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT',
    );
    again();
    open('policy DROP');
    guest.run('iptables -I FORWARD 1 -p tcp --dport 80 -j DROP');
    closed('a rule before');
    guest.run(
      'iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT; iptables -F INPUT; iptables -F FORWARD; ufw allow 22/tcp; ufw --force enable',
    );
    again();
    open('ufw');
    guest.run('ufw route deny proto tcp to any port 80');
    closed('ufw route deny');
    guest.run(
      'ufw --force reset; ufw disable; iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT; iptables -F INPUT; iptables -F FORWARD; systemctl start firewalld',
    );
    again();
    open('firewalld');
    guest.run('firewall-cmd --reload');
    open('firewalld, after a reload');
    guest.run('systemctl stop firewalld');
    again();
  } finally {
    server.kill();
  }
});

test('a reboot: containers and Pods end in order, and all that should run does again', async () => {
  on('kubectl run bare --image=busybox -- sleep 100000; kubectl wait --for=condition=Ready pod/bare --timeout=300s');
  const before = on('docker ps -q --filter name=^orderly$ --filter name=^web$ | sort');
  const pods = on('kubectl -n demo get pods -o name | sort');
  guest.try('nohup sh -c "sleep 1; systemctl reboot" >/dev/null 2>&1 &');
  await until('the guest goes down', () => String(guest.try('true').code), /^(?!0$)/);
  await guest.answers();
  await until('the platform', () => tryOn('./tiphys up'), /already up/);
  const journal = guest.run(
    'journalctl -b -1 -o short-unix --no-pager | grep -E "Stopping tiphys.service|Stopped tiphys.service|Reached target (reboot|shutdown).target"',
  );
  const seconds = journal.split('\n').map((line) => Number(line.split(' ')[0]));
  console.log(
    `shutdown: ${(seconds.at(-1)! - seconds[0]!).toFixed(1)} s from the first word to systemd's last (grace periods of 10 and 30 s)`,
  );
  assert.doesNotMatch(guest.run('journalctl -b -1 -u tiphys --no-pager'), /timed out|Failed with result/);
  assert.match(on('docker logs orderly'), /ended in order/);
  assert.equal(on('docker ps -q --filter name=^orderly$ --filter name=^web$ | sort'), before);
  await rolledOut();
  const marked = on(
    `kubectl -n demo get pods -o jsonpath='{range .items[*]}{.metadata.name} {.status.phase} {.status.reason}{"\\n"}{end}'`,
  );
  assert.match(marked, /Failed Terminated/, 'Pods of controllers were told that the node goes');
  assert.notEqual(on('kubectl -n demo get pods -o name | sort'), pods);
  await until("a Pod of nobody's", () => tryOn('kubectl get pod bare --no-headers'), /1\/1\s+Running/);
});

test('a power cut in the middle of a roll-out: it ends as it should', async () => {
  on(
    'kubectl -n demo set image deployment/web "*=127.0.0.1:5000/demo/web:v2"; kubectl -n demo set image deployment/api "*=127.0.0.1:5000/demo/api:v2"',
  );
  await until(
    'the roll-out has begun',
    () => tryOn('kubectl -n demo get pods -o wide --no-headers | wc -l; kubectl -n demo get rs --no-headers'),
    /web/,
  );
  await guest.cut();
  await guest.boot();
  await until('the platform', () => tryOn('./tiphys up'), /already up/);
  await rolledOut();
  const port = on(`kubectl -n demo get svc web -o jsonpath='{.spec.ports[0].nodePort}'`);
  await until(
    'the second version',
    () =>
      spawnSync(
        'ip',
        ['netns', 'exec', guest.namespace, 'curl', '-s', '-m', '5', `http://${guestAddress}:${port}/version`],
        { encoding: 'utf8' },
      ).stdout,
    /v2/,
  );
  assert.match(on('docker ps --format "{{.Names}}"'), /^orderly$/m);
});

test('systemctl stop is down: nothing is left', () => {
  guest.run('systemctl stop tiphys');
  assert.equal(guest.run('ip -o link | grep -c tph || true'), '0');
  assert.equal(guest.run('nft list tables | grep -c tiphys_ || true'), '0');
  assert.equal(guest.run('iptables -S | grep -c tiphys || true'), '0');
  assert.equal(guest.run('pgrep -c "conmon|haproxy" || true'), '0');
  guest.run('systemctl start tiphys');
  assert.equal(guest.run('systemctl is-active tiphys'), 'active');
});
