/** Commands about the machines of a cluster, and about the keys that its servers have in common. */
import type { Command } from 'commander';
import { json } from './output.ts';

export function addClusterCommands(program: Command): void {
  addTokens(program);
  addMachines(program);
  addKeys(program);
  addUpgrade(program);
}

function addTokens(program: Command): void {
  const token = program.command('token').description('tokens by which other machines join this cluster');
  token
    .command('create')
    .description('print the line that joins another machine to this cluster')
    .option('--ttl <time>', 'how long it holds (default: 1h)')
    .option('--address <host>', "where other machines reach this one (default: the default route's address)")
    .option('--description <text>', 'what it is for')
    .option('--server', 'for a further control plane: whoever holds the token is given the keys of the cluster')
    .option(
      '--etcd-binary <file>',
      "etcd's program on this machine, where several servers keep the state (default: etcd)",
    )
    .addOption(json())
    .action(async (options) => {
      const { createToken } = await import('./commands/token.ts');
      await createToken(options);
    });
  token
    .command('list')
    .description('list the tokens that hold')
    .addOption(json())
    .action(async (options) => {
      const { listTokens } = await import('./commands/token.ts');
      await listTokens(options);
    });
  token
    .command('delete')
    .description('take a token back')
    .argument('<token>', 'its id, or all of it')
    .action(async (text: string) => {
      const { deleteToken } = await import('./commands/token.ts');
      await deleteToken(text);
    });
}

function addMachines(program: Command): void {
  program
    .command('join')
    .description("make this machine a node of another machine's cluster ('tiphys token create' there prints the line)")
    .argument('<url>', 'https://HOST:PORT of the API server')
    .argument('<token>', 'ID.SECRET@sha256:HASH')
    .option('--name <node>', "the node's name (default: the host's)")
    .option('--address <address>', 'where other machines reach this one (default: that on the way to the server)')
    .option('--server', "as a further control plane ('tiphys token create --server' there prints the line)")
    .option('--etcd-binary <file>', "etcd's program on this machine, for a further control plane (default: etcd)")
    .option('-y, --yes', 'do not ask before installing')
    .action(async (url: string, text: string, options) => {
      const { joinCommand } = await import('./commands/join.ts');
      await joinCommand(url, text, options);
    });
  program
    .command('leave')
    .description('take this machine out of the cluster that it joined: its Pods move, and everything here stops')
    .option('--force', 'also where the server does not answer')
    .option('--purge', 'remove images, containers and volumes too')
    .option('-y, --yes', 'do not ask')
    .action(async (options) => {
      const { leaveCommand } = await import('./commands/join.ts');
      await leaveCommand(options);
    });
  program
    .command('nodes')
    .description('list machines: roles, health, versions, addresses')
    .addOption(json())
    .action(async (options) => {
      const { nodesCommand } = await import('./commands/nodes.ts');
      await nodesCommand(options);
    });
  program
    .command('remove')
    .description('take a machine out of this cluster: its Pods move, its certificates are refused')
    .argument('<node>')
    .action(async (name: string) => {
      const { removeCommand } = await import('./commands/nodes.ts');
      await removeCommand(name);
    });
  program
    .command('recover')
    .description('go on with this server alone, after most of the others were lost for good')
    .option('--lost <names>', 'the servers that never come back, all others, separated by commas')
    .action(async (options) => {
      const { recoverCommand } = await import('./commands/nodes.ts');
      await recoverCommand(options);
    });
}

/** What any program may do; all else is for the one that runs the instance. */
const ownCommands = new Set(
  'upgrade version doctor completion engine registry test bench simulate rehearse demo uninstall'.split(' '),
);

/** `hidden`: the platform's own processes, and whatever else is not the user's. */
export function runByRunningProgram(program: Command): void {
  program.hook('preAction', async (_program, command) => {
    for (let at: Command = command; at !== program; at = at.parent ?? program)
      if (ownCommands.has(at.name()) || isHidden(program, at)) return;
    const { runByOther } = await import('./commands/upgrade.ts');
    const { data } = command.opts<{ data?: string }>();
    const code = await runByOther(data);
    if (code !== undefined) process.exit(code);
  });
}

function isHidden(program: Command, command: Command): boolean {
  return command.parent === program && !program.createHelp().visibleCommands(program).includes(command);
}

function addUpgrade(program: Command): void {
  program
    .command('upgrade')
    .description('this program takes over, on all machines of the cluster one after the other; containers go on')
    .option('--back', 'to what ran before')
    .option('--here', 'on this machine alone')
    .option('--finish', 'newer formats may be written from now on: there is no way back')
    .option('-y, --yes', 'do not ask before installing')
    .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
    .action(async (options) => {
      const { upgradeCommand } = await import('./commands/upgrade.ts');
      await upgradeCommand(options);
    });
}

function addKeys(program: Command): void {
  const certs = program.command('certs').description("the cluster's authorities, and what they have signed");
  certs
    .command('rotate')
    .description('other authorities sign from now on; what those of before have signed holds until tiphys certs finish')
    .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
    .action(async (options) => {
      const { rotateCertificates } = await import('./commands/certs.ts');
      await rotateCertificates(options);
    });
  certs
    .command('finish')
    .description('what the authorities of before have signed holds no more')
    .option('--force', 'also where nodes have no certificates of the new ones: they are locked out')
    .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
    .action(async (options) => {
      const { finishCertificates } = await import('./commands/certs.ts');
      await finishCertificates(options);
    });
  program
    .command('rotate-encryption-key')
    .description('encrypt Secrets with a new key on all servers, those that are there too')
    .option('--data <dir>', 'data directory (default: $TIPHYS_HOME/data or /var/lib/tiphys)')
    .action(async (options: { data?: string }) => {
      const { rotateKey } = await import('./commands/certs.ts');
      await rotateKey(options);
    });
}
