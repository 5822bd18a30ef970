/**
 * What people type in their first hour with docker, from reports of those who did: one machine, many short commands by
 * the real client.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { createMachine, expectDocker, run } from './machine.ts';
import type { Output } from './machine.ts';

test('the first hour with docker', { timeout: 300_000 }, async (t) => {
  await using machine = createMachine();
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await machine.tiphys(['down', '--purge']);
    assert.deepEqual(machine.leftovers(), []);
  });
  assert.equal((await machine.tiphys(['up'])).code, 0);
  const docker = (...args: string[]): Promise<Output> => machine.docker(...args);
  const { good, bad } = expectDocker(docker);
  const typed = (input: string, ...args: string[]): Promise<Output> =>
    run('docker', args, machine.environment, { input, timeoutMs: 20_000 });
  const socket = `${machine.home}/run/docker.sock`;
  const call = async (method: string, path: string, body?: string): Promise<string> => {
    const out = await run('curl', [
      '-s',
      '--unix-socket',
      socket,
      '-X',
      method,
      '-H',
      'Content-Type: application/json',
      ...(body === undefined ? [] : ['-d', body]),
      '-w',
      ' %{http_code}',
      `http://d${path}`,
    ]);
    return out.stdout;
  };
  await good('pull', '-q', 'busybox');

  await t.test(
    '-v binds a file, a socket and a device node that are there, and makes a directory where nothing is',
    async () => {
      const file = machine.file('bound/file', 'hello');
      assert.equal(await good('run', '--rm', '-v', `${file}:/f`, 'busybox', 'cat', '/f'), 'hello');
      const only = 'cat /f; echo no > /f';
      const locked = await docker('run', '--rm', '-v', `${file}:/f:ro`, 'busybox', 'sh', '-c', only);
      assert.match(`${locked.stdout} ${locked.stderr}`, /^hello .*Read-only file system/s);
      await good('run', '--rm', '-v', `${socket}:/s:ro`, '-v', '/dev/null:/n:ro', 'busybox', 'true');
      assert.match(await good('run', '--rm', '-v', `${socket}:/s`, 'busybox', 'ls', '-l', '/s'), /^s/);
      assert.match(await good('run', '--rm', '-v', '/dev/null:/n', 'busybox', 'ls', '-l', '/n'), /^c/);
      await good('run', '--rm', '-v', `${machine.home}/bound/made/here:/m`, 'busybox', 'touch', '/m/x');
      assert.ok(existsSync(`${machine.home}/bound/made/here/x`));
      await bad(
        /error while creating mount source path '.*': mkdir .*: not a directory/,
        'run',
        '--rm',
        '-v',
        `${file}/below:/f`,
        'busybox',
        'true',
      );
    },
  );
  await t.test('who attached to an exec and starts it again reads the refusal from the connection', async () => {
    await good('run', '-d', '--name', 'worked-in', '--ipc', 'shareable', 'busybox', 'sleep', '1000');
    const body = JSON.stringify({ Cmd: ['sleep', '1000'], AttachStdout: true });
    const made = await call('POST', '/v1.44/containers/worked-in/exec', body);
    const { Id } = JSON.parse(made.slice(0, made.lastIndexOf(' '))) as { Id: string };
    assert.match(await call('POST', `/v1.44/exec/${Id}/start`, '{"Detach":true}'), / 200$/);
    assert.match(await call('POST', `/v1.44/exec/${Id}/start`, '{}'), /exec command .* is already running\r\n 200$/);
    assert.match(await call('POST', `/v1.44/exec/${Id}/start`, '{"Detach":true}'), /is already running.* 409$/s);
    const id = await good('inspect', '-f', '{{.Id}}', 'worked-in');
    await good('create', '--name', 'beside', '--ipc', 'container:worked-in', '--pid', 'container:worked-in', 'busybox');
    const shown = await good('inspect', '-f', '{{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}', 'beside');
    assert.equal(shown, `container:${id} container:${id}`);
    await good('rm', '-f', 'worked-in', 'beside');
  });
  await t.test('input that has already ended ends: run -i, exec -i', async () => {
    for (let times = 0; times < 3; times++)
      assert.equal((await typed('', 'run', '--rm', '-i', 'busybox', 'cat')).code, 0);
    assert.equal((await typed('typed', 'run', '--rm', '-i', 'busybox', 'cat')).stdout, 'typed');
    await good('create', '-i', '--name', 'again', 'busybox', 'cat');
    assert.equal((await typed('', 'start', '-ai', 'again')).code, 0);
    assert.equal((await typed('second', 'start', '-ai', 'again')).stdout, 'second');
    await good('run', '-d', '--name', 'target', 'busybox', 'sleep', '1000');
    const empty = await typed('', 'exec', '-i', 'target', 'cat');
    assert.deepEqual([empty.code, empty.stdout], [0, '']);
    assert.equal((await typed('more', 'exec', '-i', 'target', 'cat', '/dev/stdin')).stdout, 'more');
  });
  await t.test(
    'exec ends with its process, though a child of it holds the output, and loses nothing of it',
    async () => {
      const out = await run('docker', ['exec', 'target', 'sh', '-c', 'sleep 100 & echo started'], machine.environment, {
        timeoutMs: 20_000,
      });
      assert.deepEqual([out.code, out.stdout], [0, 'started\n']);
      assert.equal((await good('exec', 'target', 'seq', '1', '50000')).split('\n').length, 50_000);
      assert.equal(await good('exec', 'target', 'sh', '-c', 'echo out > /dev/stdout'), 'out');
      assert.equal((await docker('exec', 'target', 'nope')).code, 127);
    },
  );
  await t.test('diff and commit take a container in any state, and an empty answer is an empty list', async () => {
    await good('create', '--name', 'created', 'busybox');
    assert.equal(await good('diff', 'created'), '');
    assert.match(await good('commit', 'created', 'from-created'), /^sha256:/);
    await good('run', '--name', 'unchanged', 'busybox', 'true');
    assert.equal(await good('diff', 'unchanged'), '');
    await good('run', '--name', 'changed', 'busybox', 'touch', '/x');
    assert.equal(await good('diff', 'changed'), 'A /x');
    await good('commit', '-m', 'why', 'changed', 'from-changed');
    await good('run', '--rm', 'from-changed', 'ls', '/x');
    await good('pause', 'target');
    await good('commit', 'target', 'from-paused');
    assert.equal(await good('inspect', '-f', '{{.State.Status}}', 'target'), 'paused');
    await good('cp', 'target:/etc/hostname', `${machine.home}/h`);
    await good('unpause', 'target');
    assert.equal(await good('inspect', '-f', '{{.State.Status}}', 'target'), 'running');
  });
  await t.test(
    'commit keeps the configuration of the base, and the comment; -P publishes what it exposes',
    async () => {
      const context = dirname(
        machine.file(
          'base/Dockerfile',
          'FROM busybox\nENV A=b\nEXPOSE 81\nVOLUME /v\nLABEL l=1\nWORKDIR /w\nSTOPSIGNAL SIGUSR1\n',
        ),
      );
      await good('build', '-q', '-t', 'base', context);
      await good('run', '-d', '-P', '--name', 'published', 'base', 'sleep', '1000');
      assert.match(await good('port', 'published'), /^81\/tcp -> 0\.0\.0\.0:\d+/);
      await good('rm', '-f', 'published');
      await good('create', '--name', 'of-base', '-e', 'C=d', 'base', 'echo', 'hi');
      await good('commit', '-m', 'the comment', '--change', 'ENV E=f', 'of-base', 'of-base-image');
      const image = JSON.parse(await good('inspect', 'of-base-image')) as [
        {
          Comment: string;
          Config: {
            Env: string[];
            ExposedPorts: object;
            Volumes: object;
            Labels: object;
            WorkingDir: string;
            StopSignal: string;
            Cmd: string[];
          };
        },
      ];
      const { Env: env, ...config } = image[0].Config;
      assert.ok(
        ['A=b', 'C=d', 'E=f'].every((entry) => env.includes(entry)) && env.some((entry) => entry.startsWith('PATH=')),
        env.join(' '),
      );
      assert.deepEqual(
        [config.ExposedPorts, config.Volumes, config.WorkingDir, config.StopSignal, config.Cmd, image[0].Comment],
        [{ '81/tcp': {} }, { '/v': {} }, '/w', 'SIGUSR1', ['echo', 'hi'], 'the comment'],
      );
    },
  );
  await t.test('pause and commit while the process ends leave nothing stuck', async () => {
    for (let times = 0; times < 8; times++) {
      await good('run', '-d', '--name', 'brief', 'busybox', 'true');
      await Promise.all([docker('commit', 'brief', 'brief-image'), docker('pause', 'brief')]);
      await machine.until(
        'its end',
        async () => {
          const { stdout } = await docker('inspect', '-f', '{{.State.Status}}', 'brief');
          if (stdout.trim() === 'paused') await docker('unpause', 'brief');
          return stdout;
        },
        /exited/,
        20_000,
      );
      await good('rm', '-f', 'brief');
    }
  });
  await t.test('tmpfs takes the options of the kernel and no others', async () => {
    assert.match(
      await good(
        'run',
        '--rm',
        '--tmpfs',
        '/t:size=1m,mode=1770,uid=5,gid=6',
        'busybox',
        'sh',
        '-c',
        'ls -ldn /t; grep " /t " /proc/mounts',
      ),
      /drwxrwx--T +2 5 +6 [^]*noexec[^]*size=1024k/,
    );
    const mounts = await good(
      'run',
      '--rm',
      '--tmpfs',
      '/t:exec,nr_inodes=77',
      'busybox',
      'grep',
      ' /t ',
      '/proc/mounts',
    );
    assert.match(mounts, /nosuid,nodev,.*nr_inodes=77/);
    assert.doesNotMatch(mounts, /noexec/);
    await bad(/invalid tmpfs option \["bogus"\]/, 'run', '--rm', '--tmpfs', '/t:bogus', 'busybox', 'true');
    await good('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', '-o', 'o=size=1m,uid=1000', 'in-memory');
    assert.match(
      await good('run', '--rm', '-v', 'in-memory:/v', 'busybox', 'grep', ' /v ', '/proc/mounts'),
      /size=1024k,uid=1000/,
    );
    await bad(/missing required option: "device"/, 'volume', 'create', '-o', 'type=nfs', 'nowhere');
  });
  await t.test('--read-only holds for the files of the engine, and below a read-only bind', async () => {
    for (const file of ['/etc/hosts', '/etc/hostname', '/etc/resolv.conf'])
      await bad(/Read-only file system/, 'run', '--rm', '--read-only', 'busybox', 'touch', file);
    mkdirSync(`${machine.home}/outer/inner`, { recursive: true });
    assert.equal((await run('mount', ['-t', 'tmpfs', 'tmpfs', `${machine.home}/outer/inner`])).code, 0);
    try {
      await bad(
        /Read-only file system/,
        'run',
        '--rm',
        '-v',
        `${machine.home}/outer:/o:ro`,
        'busybox',
        'touch',
        '/o/inner/x',
      );
    } finally {
      await run('umount', [`${machine.home}/outer/inner`]);
    }
  });
  await t.test('privileged has the devices of the host, and the seccomp profile that was named', async () => {
    const devices = Number(await good('run', '--rm', '--privileged', 'busybox', 'sh', '-c', 'ls /dev | wc -l'));
    assert.ok(
      devices >=
        readdirSync('/dev', { withFileTypes: true }).filter(
          (entry) => entry.isCharacterDevice() || entry.isBlockDevice(),
        ).length,
      `${devices}`,
    );
    const profile = machine.file(
      'profile.json',
      '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}',
    );
    await bad(
      /Operation not permitted/,
      'run',
      '--rm',
      '--privileged',
      '--security-opt',
      `seccomp=${profile}`,
      'busybox',
      'mkdir',
      '/x',
    );
  });
  await t.test('restart of a --rm container restarts it; its end removes it', async () => {
    await good('run', '--rm', '-d', '--name', 'vanishing', 'busybox', 'sleep', '1000');
    await good('restart', '-t', '0', 'vanishing');
    assert.equal(await good('inspect', '-f', '{{.State.Status}}', 'vanishing'), 'running');
    await good('stop', '-t', '0', 'vanishing');
    await machine.until(
      'its removal',
      async () => (await docker('ps', '-a', '--format', '{{.Names}}')).stdout,
      /^(?![^]*vanishing)/,
      10_000,
    );
  });
  await t.test('cp -a without a user of the image keeps owners', async () => {
    writeFileSync(`${machine.home}/owned`, 'x');
    assert.equal((await run('chown', ['1234:5', `${machine.home}/owned`])).code, 0);
    await good('cp', '-a', `${machine.home}/owned`, 'target:/owned');
    assert.equal(await good('exec', 'target', 'stat', '-c', '%u:%g', '/owned'), '1234:5');
  });
  await t.test('logs give lines from a time on, to the nanosecond, and the last lines whole', async () => {
    await good('run', '--name', 'talks', 'busybox', 'seq', '1', '2000');
    const all = (await good('logs', '-t', 'talks')).split('\n');
    const since = all[499]!.split(' ')[0]!;
    assert.deepEqual(
      (await good('logs', '-t', '--since', since, 'talks')).split('\n'),
      all.filter((line) => line.split(' ')[0]! >= since),
    );
    await good(
      'run',
      '--name',
      'long',
      'busybox',
      'sh',
      '-c',
      'echo first; head -c 12000 /dev/zero | tr "\\0" x; echo',
    );
    assert.equal((await docker('logs', '--tail', '1', 'long')).stdout.length, 12_001);
  });
  await t.test('max-size and max-file bound the log of a fast writer too', async () => {
    await good(
      'run',
      '--name',
      'floods',
      '--log-opt',
      'max-size=100k',
      '--log-opt',
      'max-file=2',
      'busybox',
      'sh',
      '-c',
      'seq 1 200000 >&2',
    );
    const directory = dirname(await good('inspect', '-f', '{{.LogPath}}', 'floods'));
    const bytes = async (): Promise<string> =>
      String(
        readdirSync(directory)
          .filter((name) => name.includes('.log'))
          .reduce((sum, name) => sum + (statSync(`${directory}/${name}`, { throwIfNoEntry: false })?.size ?? 0), 0) <=
          2 * 100 * 1024,
      );
    await machine.until('the bound', bytes, /true/, 10_000);
    assert.match((await docker('logs', '--tail', '1', 'floods')).stderr, /^200000$/m);
  });
  await t.test('numbers out of range, names of the language and NULs are refused, not failures', async () => {
    for (const memory of ['1e30', '99999999999999999999', '9223372036854775808'])
      assert.match(
        await call('POST', '/containers/create', `{"Image":"busybox","HostConfig":{"Memory":${memory}}}`),
        /cannot unmarshal number.* 400$/s,
      );
    assert.match(await call('POST', '/containers/target/update', '{"Memory":1e300}'), / 400$/);
    assert.match(
      await call('POST', '/containers/create', '{"Image":"busybox","HostConfig":{"constructor":{"prototype":1}}}'),
      / 201$/,
    );
    assert.match(await call('POST', '/volumes/create', '{"Name":"proto","constructor":{"prototype":1}}'), / 201$/);
    assert.match(await call('GET', '/containers/target/archive?path=/etc%00/passwd'), / 400$/);
    assert.match(
      await call('POST', '/containers/create', '{"Image":"busybox","Env":["A=b\\u0000c"]}'),
      /contains a NUL.* 400$/s,
    );
    assert.match(
      await call('POST', '/containers/create', '{"Image":"busybox","Cmd":["a\\u0000b"]}'),
      /contains a NUL.* 400$/s,
    );
  });
  await t.test('version, info, inspect, ps, top and logs --details tell what docker tells', async () => {
    assert.match(
      await good(
        'version',
        '--format',
        '{{.Server.GoVersion}}|{{.Server.BuildTime}}|{{range .Server.Components}}{{.Name}} {{.Version}};{{end}}',
      ),
      /^node v\d.*\|\w.*\|Engine [\d.]+.*;(crun|runc) [\d.]+.*;conmon [\d.]+;/,
    );
    assert.match(
      await good('info', '--format', '{{.DefaultRuntime}} {{index .Runtimes "runc"}} {{.RuncCommit.ID}}'),
      /^runc \{.*\/(crun|runc).*\} \S+$/,
    );
    await good(
      'run',
      '-d',
      '--name',
      'shown',
      '--expose',
      '90/udp',
      '-l',
      'a=b',
      '--log-opt',
      'labels=a',
      'busybox',
      'sh',
      '-c',
      'test -f /.dockerenv && echo marked; exec sleep 1000',
    );
    await machine.until(
      'its line',
      async () => (await docker('logs', '--details', 'shown')).stdout,
      /^a=b marked$/m,
      10_000,
    );
    assert.match(
      await good('inspect', '-f', '{{.GraphDriver.Data.LowerDir}} {{.GraphDriver.Data.WorkDir}}', 'shown'),
      /^\/\S+ \/\S+$/,
    );
    assert.equal(await good('ps', '--filter', 'expose=90/udp', '--format', '{{.Names}}'), 'shown');
    assert.match(await good('top', 'shown', '-eo', 'pid,comm'), /^PID +COMMAND *\n\d+ +sleep/);
    await bad(/PID field/, 'top', 'shown', '-o', 'comm');
    await bad(/Limit 200 is outside/, 'search', '--limit', '200', 'x');
  });
  await t.test('what this host cannot hold is refused or warned of', async () => {
    await bad(
      /storage-opt is supported only for overlay over xfs/,
      'run',
      '--rm',
      '--storage-opt',
      'size=1g',
      'busybox',
      'true',
    );
    await bad(/Range of blkio weight is from 10 to 1000/, 'run', '--rm', '--blkio-weight', '5', 'busybox', 'true');
    const weighted = await docker(
      'run',
      '--rm',
      '--blkio-weight',
      '300',
      'busybox',
      'sh',
      '-c',
      'cat /sys/fs/cgroup/blkio/blkio.bfq.weight /sys/fs/cgroup/blkio/blkio.weight /sys/fs/cgroup/io.bfq.weight 2>/dev/null; cat /sys/fs/cgroup/io.weight 2>/dev/null; true',
    );
    assert.match(weighted.stdout + weighted.stderr, /\b300\b|default \d+|Weight discarded/);
    if ((await run('sh', ['-c', 'grep -q Y /sys/module/apparmor/parameters/enabled'])).code !== 0)
      assert.match(
        (await docker('run', '--rm', '--security-opt', 'apparmor=mine', 'busybox', 'true')).stderr,
        /AppArmor is not enabled/,
      );
  });
  await t.test(
    'a mount on the host reaches a container that binds rslave, and a place that cannot is refused',
    async () => {
      const shared = `${machine.home}/shared`;
      mkdirSync(`${shared}/inner`, { recursive: true });
      const mounted = await run('sh', ['-c', `mount --bind ${shared} ${shared} && mount --make-shared ${shared}`]);
      assert.equal(mounted.code, 0, mounted.stderr);
      try {
        await good('run', '-d', '--name', 'slave', '-v', `${shared}:/m:rslave`, 'busybox', 'sleep', '1000');
        await run('mount', ['-t', 'tmpfs', 'tmpfs', `${shared}/inner`]);
        writeFileSync(`${shared}/inner/seen`, '');
        assert.equal(await good('exec', 'slave', 'ls', '/m/inner'), 'seen');
        await good('rm', '-f', 'slave');
        assert.equal((await run('mount', ['--make-private', shared])).code, 0);
        await bad(
          /is mounted on .* but it is not a shared/,
          'run',
          '--rm',
          '-v',
          `${shared}:/m:rslave`,
          'busybox',
          'true',
        );
      } finally {
        await run('sh', ['-c', `umount ${shared}/inner; umount ${shared}`]);
      }
    },
  );
  await t.test('the size of a volume counts a file with several names once', async () => {
    await good(
      'run',
      '--rm',
      '-v',
      'linked:/v',
      'busybox',
      'sh',
      '-c',
      'head -c 1000000 /dev/zero > /v/a; ln /v/a /v/b; ln /v/a /v/c',
    );
    assert.match(
      await good('system', 'df', '-v', '--format', '{{range .Volumes}}{{.Name}} {{.Size}};{{end}}'),
      /linked 1MB;/,
    );
  });
  await t.test('in a Pod $HOSTNAME is that of the Pod', async () => {
    await machine.kube('run', 'named-0', '--image=busybox', '--image-pull-policy=IfNotPresent', '--', 'sleep', '1000');
    await machine.kube('wait', '--for=condition=Ready', 'pod/named-0', '--timeout=60s');
    assert.equal((await machine.kube('exec', 'named-0', '--', 'sh', '-c', 'echo $HOSTNAME')).trim(), 'named-0');
  });
  await t.test('groups of --cgroup-parent go with the instance', async () => {
    await good(
      'run',
      '-d',
      '--name',
      'parented',
      '--cgroup-parent',
      '/tiphys-first-hour/a',
      'busybox',
      'sleep',
      '1000',
    );
    const found = async (): Promise<string> =>
      (await run('sh', ['-c', 'ls -d /sys/fs/cgroup/tiphys-first-hour /sys/fs/cgroup/*/tiphys-first-hour 2>/dev/null']))
        .stdout;
    assert.notEqual(await found(), '');
    await good('rm', '-f', 'parented');
    assert.equal(await found(), '');
    await good('run', '-d', '--cgroup-parent', 'tiphys-first-hour', 'busybox', 'sleep', '1000');
    assert.equal((await machine.tiphys(['down', '--purge'])).code, 0);
    assert.equal(await found(), '');
  });
});
