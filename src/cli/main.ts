/**
 * The command line. One table of commands makes help and shell completion; each command's code is loaded when it is
 * used. Exit codes: 0 done; 1 failed; 2 wrong usage, or this machine lacks something that the message names.
 */
import { Command, CommanderError } from 'commander';
import { existsSync } from 'node:fs';
import { parseDuration } from '#base/duration.ts';
import { parseAddressPool } from '#base/address-pool.ts';
import { ApiError } from '#base/errors.ts';
import { formatSubnet, parseCidr, subnetOf } from '#base/ip.ts';
import { messageOf, stackOf } from '#base/thrown.ts';
import { podsPerNodeMax } from '#kubelet/limits.ts';
import { FinalError, finalExitCode } from '#platform/final-error.ts';
import { backupsKeptMax, nodeGraceMs, nodeGraceMsMax } from '#platform/limits.ts';
import { networkModes, type NetworkMode } from '#platform/instance.ts';
import { addClusterCommands, runByRunningProgram } from './cluster-commands.ts';
import { completionScript } from './completion.ts';
import { json, UsageError } from './output.ts';

/** Set by the commands that are a process of the platform. */
let stays = false;
const program = new Command('tiphys');
program
  .description(
    'Build, store, run and orchestrate containers: a Docker-compatible engine, an OCI registry and a Kubernetes cluster.',
  )
  .configureHelp({ sortSubcommands: false })
  .exitOverride()
  .showHelpAfterError('(tiphys --help lists commands)');

// Whoever reads the output may leave early (`tiphys up | head -1`): what was begun is done all the same.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });

const port = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535)
    throw new UsageError(`${JSON.stringify(text)} is not a port (1 to 65535)`);
  return value;
};
const nodes = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 16)
    throw new UsageError(`${JSON.stringify(text)} is not a number of nodes (1 to 16)`);
  return value;
};
/** A process that could not start must not stay half made: its supervisor tries again, where that may help. */
async function endOnFailure(run: Promise<void>): Promise<void> {
  await run.catch((error: unknown) => {
    process.stdout.write(
      `${JSON.stringify({ level: 'error', part: 'start', msg: error instanceof Error ? error.stack : String(error) })}\n`,
    );
    process.exit(error instanceof FinalError ? finalExitCode : 1);
  });
}
const maxPods = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > podsPerNodeMax)
    throw new UsageError(
      `${JSON.stringify(text)} is not a number of Pods on a node (1 to ${podsPerNodeMax}: a node has a /24 of the Pod range)`,
    );
  return value;
};
const gracePeriod = (text: string): number => {
  const ms = Number((parseDuration(text) ?? 0n) / 1_000_000n);
  if (ms < nodeGraceMs || ms > nodeGraceMsMax)
    throw new UsageError(
      `${JSON.stringify(text)} is not a time from 10s to 1h (kubelets renew their Leases every 2.5 s)`,
    );
  return ms;
};
const addressPool = (text: string): string => {
  if (text !== 'none' && parseAddressPool(text) === undefined)
    throw new UsageError(
      `${JSON.stringify(text)} names no IPv4 addresses (192.0.2.200-192.0.2.220, 192.0.2.64/28, 192.0.2.7; several with commas)`,
    );
  return text;
};
const networkMode = (text: string): NetworkMode => {
  const mode = networkModes.find((each) => each === text);
  if (mode !== undefined) return mode;
  if (text === 'wireguard')
    throw new UsageError(
      existsSync('/sys/module/wireguard')
        ? "--network wireguard is not supported yet: 'vxlan' works wherever UDP does, and encrypts nothing"
        : "--network wireguard: this kernel has no WireGuard; 'auto', 'routes' and 'vxlan' work here, and encrypt nothing",
    );
  throw new UsageError(`${JSON.stringify(text)} is no network mode (${networkModes.join(', ')})`);
};
const range = (text: string): string => {
  const cidr = parseCidr(text);
  if (cidr?.address.family !== 'IPv4' || cidr.length < 8 || cidr.length > 19)
    throw new UsageError(`${JSON.stringify(text)} is not a range of IPv4 addresses (10.244.0.0/16; /8 to /19)`);
  return formatSubnet(subnetOf(text));
};
const keep = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > backupsKeptMax)
    throw new UsageError(`${JSON.stringify(text)} is not a number of backups (1 to ${backupsKeptMax})`);
  return value;
};
const endpoints = (text: string): string[] => text.split(',').map((one) => one.trim());
const etcdPrefix = (text: string): string => {
  // Of two prefixes none may lie within the other.
  if (!/^\/[^\s/]+$/.test(text))
    throw new UsageError(`${JSON.stringify(text)} is not a prefix: it is a slash and a name without further ones`);
  return text;
};
const collect = (value: string, before: string[]): string[] => [...before, value];

function withEtcdOptions(command: Command): Command {
  return command
    .option('--etcd-endpoints <urls>', 'etcd that holds the state, separated by commas (default: SQLite)', endpoints)
    .option('--etcd-cafile <file>', "authority of etcd's certificates")
    .option('--etcd-certfile <file>', 'certificate by which etcd knows this server')
    .option('--etcd-keyfile <file>', 'its key')
    .option(
      '--etcd-prefix <prefix>',
      'below which the keys of this cluster lie in etcd (default: /tiphys)',
      etcdPrefix,
    );
}

function withPlatformOptions(command: Command): Command {
  return withEtcdOptions(command)
    .option('--nodes <number>', 'nodes on this machine; those after the first live in network namespaces', nodes)
    .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
    .option('--api-port <port>', 'port of the API server on 127.0.0.1 (default: 6443)', port)
    .option('--registry-port <port>', 'port of the registry on 127.0.0.1 (default: 5000)', port)
    .option('--http-port <port>', 'port for Ingress (default: 80, or 8080 where it is taken)', port)
    .option('--https-port <port>', 'port for Ingress over TLS (default: 443, or 8443 where it is taken)', port)
    .option(
      '--node-monitor-grace-period <time>',
      'how long nothing is heard of a node before it is lost, on each server (default: 10s)',
      gracePeriod,
    )
    .option(
      '--load-balancer-pool <ranges>',
      'addresses for Services of type LoadBalancer, which machines announce by ARP (none: those of machines)',
      addressPool,
    )
    .option('--max-pods <number>', 'Pods on each node at once (default: 110)', maxPods)
    .option('--registry-mirror <url>', 'mirror of docker.io; may be repeated', collect, [])
    .option(
      '--kube-apiserver-arg <flag>',
      "a flag of kube-apiserver's, as audit-policy-file=FILE; may be repeated; '' takes all back",
      collect,
      [],
    )
    .option(
      '--network <mode>',
      'how Pods reach those on other machines: auto (default; routes on one link, else VXLAN), routes or vxlan',
      networkMode,
    )
    .option('--pod-range <cidr>', 'addresses of Pods, for a new cluster (default: a free /16)', range)
    .option('--service-range <cidr>', 'addresses of Services, for a new cluster (default: a free /16)', range);
}

withPlatformOptions(program.command('demo').description('take an application through its whole life on this machine'))
  .option('-y, --yes', 'do not ask before installing')
  .option('--dry-run', 'only list what would be added')
  .option('--keep-going', 'go on after a failed step')
  .option('--own-clients', "use Tiphys' own clients even where docker and kubectl are installed")
  .action(async (options) => {
    const { demo } = await import('./commands/demo.ts');
    await demo(options);
  });
withPlatformOptions(program.command('up').description('start the platform in the background'))
  .option('--foreground', 'stay, and stop everything on Ctrl-C')
  .option('--replace', "end the platform's own processes and start them anew; containers go on")
  .option('-y, --yes', 'do not ask before installing')
  .option('--dry-run', 'only list what would be added')
  .action(async (options) => {
    const { up } = await import('./commands/up.ts');
    await up(options);
  });
withEtcdOptions(program.command('migrate').description("move the cluster's state to an etcd, or back to SQLite"))
  .option('--to-sqlite', 'back to SQLite in the data directory')
  .option('--data <dir>', 'data directory')
  .action(async (options) => {
    const { migrateState } = await import('./commands/migrate.ts');
    await migrateState(options);
  });
program
  .command('backup')
  .description('write all that the cluster is into one sealed file: objects, Secrets, keys, images, volumes')
  .argument('[file]', 'where to: a file, or s3://BUCKET/KEY; with --every a directory, or s3://BUCKET/PREFIX')
  .option('--passphrase-file <file>', 'its first line seals the backup (default: asked for)')
  .option('--recipient <key>', 'public key of age (age1…) for which it is sealed; may be repeated', collect, [])
  .option(
    '--images <which>',
    'own (default: made here, and what the registry holds), all, none, or a name; may be repeated',
    collect,
    [],
  )
  .option('--every <time>', "from now on the server makes one so often (6h), into a directory; 'off' ends that")
  .option('--keep <number>', 'how many of those stay (default: 14)', keep)
  .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
  .addOption(json())
  .action(async (file: string | undefined, options) => {
    const { backupCommand } = await import('./commands/backup.ts');
    await backupCommand(file, options);
  });
withPlatformOptions(
  program.command('restore').description('begin the cluster of a backup anew on this machine, and start it'),
)
  .argument('<file>', "what 'tiphys backup' has written: a file, or s3://BUCKET/KEY")
  .option('--passphrase-file <file>', 'its first line opens the backup (default: asked for)')
  .option('--identity <file>', 'secret key of age that opens it; may be repeated', collect, [])
  .option('-y, --yes', 'do not ask before installing')
  .option('--dry-run', 'only list what would be added')
  .action(async (file: string, options) => {
    const { restoreCommand } = await import('./commands/backup.ts');
    await restoreCommand(file, options);
  });
program
  .command('down')
  .description('stop everything; with --purge remove the data too')
  .option('--purge', 'remove all data: images, volumes, cluster state')
  .option('--data <dir>', 'data directory')
  .action(async (options) => {
    const { down } = await import('./commands/down.ts');
    await down(options);
  });
addClusterCommands(program);
program
  .command('status')
  .description('show parts, versions, ports and memory')
  .addOption(json())
  .action(async (options) => {
    const { status } = await import('./commands/status.ts');
    await status(options);
  });
program
  .command('env')
  .description('print DOCKER_HOST and KUBECONFIG for eval "$(tiphys env)"')
  .addOption(json())
  .action(async (options) => {
    const { env } = await import('./commands/env.ts');
    env(options);
  });
program
  .command('kubeconfig')
  .description("print the administrator's kubeconfig")
  .action(async () => {
    const { kubeconfig } = await import('./commands/env.ts');
    kubeconfig();
  });
program
  .command('doctor')
  .description('check kernel, cgroups, tools, ports and disk, and say how to mend each')
  .addOption(json())
  .action(async (options) => {
    const { doctor } = await import('./commands/doctor.ts');
    await doctor(options);
  });
program
  .command('engine')
  .description("run the engine alone, with dockerd's options and daemon.json (tiphys engine --help)")
  .helpOption(false)
  .allowUnknownOption()
  .allowExcessArguments()
  .argument('[options...]')
  .action(async () => {
    const { engine } = await import('./commands/engine.ts');
    await engine(process.argv.slice(3));
  });
program
  .command('registry')
  .description('run the registry alone')
  .option('--listen <address>', 'HOST:PORT; may be repeated (default: 127.0.0.1:5000)', collect, [])
  .option('--data <dir>', 'data directory (default: /var/lib/tiphys-registry)')
  .option('--tls-cert <file>', 'certificate; SIGHUP reads it again')
  .option('--tls-key <file>', 'its key')
  .option('--anonymous-pull <who>', 'who may pull without a password: none, loopback or all', 'loopback')
  .option('-D, --debug', 'log what only developers want to know')
  .action(async (options) => {
    const { registry } = await import('./commands/registry.ts');
    await registry(options);
  });
program
  .command('registry-user')
  .description('make a user of the registry, or change a password (read from standard input)')
  .argument('<user>')
  .option('--administrator', 'may push to every repository, as the first user may; others push below their own name')
  .option('--no-administrator', 'pushes below the own name only')
  .option('--registry <dir>', "of a 'tiphys registry' with this data directory; absent: of the platform")
  .action(async (user: string, options: { administrator?: boolean; registry?: string }) => {
    const { addRegistryUser } = await import('./commands/registry-user.ts');
    await addRegistryUser(user, options);
  });
program
  .command('test')
  .description('run the tests (npm test)')
  .argument('[files...]')
  .option('--found', 'only the cases that users met (test/found)')
  .action(async (paths: string[], options) => {
    const { runTests } = await import('./commands/test.ts');
    await runTests(paths, options);
  });
program
  .command('bench')
  .description('measure side by side with the peers that are installed')
  .argument('[names...]')
  .addOption(json())
  .option('--rounds <number>', 'rounds of each measurement')
  .option('--list', 'list the benchmarks')
  .action(async (names: string[], options) => {
    const { bench } = await import('./commands/bench.ts');
    await bench(names, options);
  });
program
  .command('simulate')
  .description('run the whole cluster in virtual time from seeds, under faults (npm run simulate)')
  .allowUnknownOption()
  .allowExcessArguments()
  .argument('[words...]', '--seeds N, --seed S, --minutes M, --twice, --scale [NODES...]')
  .action(async () => {
    const { runSimulateCommand } = await import('#sim/simulate.main.ts');
    process.exitCode = await runSimulateCommand(process.argv.slice(3));
  });
program
  .command('rehearse')
  .description('run your manifests in virtual time under faults, and say what would become unavailable')
  .option('-f, --file <path>', 'manifests: a file, a directory, or - for standard input; may be repeated', collect, [])
  .option('-R, --recursive', 'directories with all below them')
  .option('-n, --namespace <name>', 'for objects that name none (default: default)')
  .option('--from-kubeconfig [path]', "a copy of a live cluster's state and nodes; -f comes on top of it")
  .option('--context <name>', "the kubeconfig's context (default: its current one)")
  .option('--save <file>', 'write the copy as manifests, which -f takes (Secrets are empty)')
  .option('--then <time=path>', 'apply these manifests at this time: a roll-out; may be repeated', collect, [])
  .option('--nodes <number>', "simulated nodes in three zones (default: 3, or the live cluster's)")
  .option('--node-cpu <amount>', 'cores of each node (default: 8)')
  .option('--node-memory <amount>', 'memory of each node (default: 32Gi)')
  .option(
    '--kill-node <time>',
    'a node dies: TIME[~LATEST][+FOR][=NODE], like 10m, 10m~50m, 10m+15m=node-1; may be repeated',
    collect,
    [],
  )
  .option('--kill-zone <time>', 'all nodes of a zone die: TIME[~LATEST][+FOR][=ZONE]; may be repeated', collect, [])
  .option('--drain <time>', 'a node is drained: TIME[~LATEST][+FOR][=NODE]; may be repeated', collect, [])
  .option(
    '--api-down <time>',
    'the API server is out of reach: TIME[~LATEST][+FOR], for 1m when FOR is absent; may be repeated',
    collect,
    [],
  )
  .option('--slow-pull <time>', 'an image that is not on the node takes this long to pull')
  .option('--for <time>', 'how long to look (default: 2h)')
  .option('--start <time>', 'virtual time at the beginning, RFC 3339 (default: 2026-01-01T00:00:00Z)')
  .option('--seeds <number>', 'how many seeds (default: 1)')
  .option('--seed <number>', 'this seed alone')
  .option('--fail-on <verdict>', 'exit status 1 from this on: degraded, unavailable or broken (default: unavailable)')
  .addOption(json())
  .action(async (options) => {
    const { rehearseCommand } = await import('./commands/rehearse.ts');
    await rehearseCommand(options, process.argv.slice(2));
  });
program
  .command('uninstall')
  .description('stop, and remove all that was added to this machine')
  .option('-y, --yes', 'do not ask')
  .action(async (options) => {
    const { uninstall } = await import('./commands/uninstall.ts');
    await uninstall(options);
  });
program
  .command('server', { hidden: true })
  .description('run the control plane process')
  .action(async () => {
    const { runServer } = await import('#platform/server.ts');
    stays = true;
    await endOnFailure(runServer());
  });
program
  .command('scheduled-backup', { hidden: true })
  .description('make the backup that is due')
  .action(async () => {
    const { runScheduledBackup } = await import('#platform/backup/schedule.ts');
    const { pathsOfPart } = await import('#platform/launch.ts');
    await runScheduledBackup(pathsOfPart());
  });
program
  .command('node', { hidden: true })
  .description('run one node process')
  .argument('<number>')
  .action(async (number: string) => {
    const { runNode } = await import('#platform/node.ts');
    stays = true;
    await endOnFailure(runNode(Number(number)));
  });
program
  .command('take-program', { hidden: true })
  .description('come to run a program that a server keeps')
  .argument('<id>')
  .argument('<attempt>')
  .option('--finish')
  .action(async (id: string, attempt: string, options: { finish?: boolean }) => {
    const [{ takeProgram }, { pathsOfPart }] = await Promise.all([
      import('#platform/upgrade/take-program.ts'),
      import('#platform/launch.ts'),
    ]);
    await takeProgram(pathsOfPart(), { id, attempt, isFinal: options.finish === true });
  });
program
  .command('own-etcd', { hidden: true })
  .description('move the state of this machine to an etcd of its own')
  .action(async () => {
    const [{ moveToOwnEtcd }, { pathsOfPart }] = await Promise.all([
      import('#platform/etcd/own-etcd.ts'),
      import('#platform/launch.ts'),
    ]);
    await moveToOwnEtcd(pathsOfPart());
  });
program
  .command('build-package', { hidden: true })
  .description('make dist for npm pack')
  .action(async () => {
    const { buildPackage } = await import('./commands/build-package.ts');
    buildPackage();
  });
program
  .command('completion')
  .description('print a completion script')
  .argument('<shell>', 'bash, zsh or fish')
  .action((shell: string) => {
    process.stdout.write(completionScript(program, shell));
  });
program
  .command('version')
  .description('print the version')
  .addOption(json())
  .action(async (options) => {
    const { version } = await import('./commands/version.ts');
    version(options);
  });

runByRunningProgram(program);

try {
  await program.parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof UsageError) {
    process.stderr.write(`tiphys: ${error.message}\n`);
    process.exitCode = 2;
  } else if (error instanceof ApiError) {
    process.stderr.write(`tiphys: ${error.message}\n`);
    process.exitCode = 1;
  } else {
    process.stderr.write(`tiphys: ${process.env['TIPHYS_DEBUG'] === undefined ? messageOf(error) : stackOf(error)}\n`);
    process.exitCode = 1;
  }
}
// Supervisors that this command started are its children and would hold it; what it printed is out, since writes to
// pipes and files are synchronous.
if (!stays) process.exit();
