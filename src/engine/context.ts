/** What every part of the engine is given: the doors to the system, the stores beside it, and where its files are. */
import type { Snapshots } from '#content/snapshots.ts';
import type { Ports } from '#net/ports.ts';
import type { RuleWriter } from '#net/rules.ts';
import type { Logger } from '#observe/log.ts';
import type { CgroupParents } from '#os/cgroup-parents.ts';
import type { Cgroups } from '#os/cgroups.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import type { Namespaces } from '#os/namespaces.ts';
import type { Netlink } from '#os/netlink.ts';
import type { Poll } from '#os/poll.ts';
import type { Processes } from '#os/processes.ts';
import type { Plugins } from '#plugins/plugins.ts';
import type { Images } from './engine.ts';
import type { Events } from './events.ts';
import type { NetworkSettings } from './network-settings.ts';
import type { HostLimits } from './runtime/host-limits.ts';
import type { Runtime } from './runtime/runtime.ts';
import type { Runtimes } from './runtime/runtimes.ts';
import type { UserMapping } from './user-mapping.ts';

export interface EngineDirectories {
  /** Records and logs: `containers/ID`, `networks`, `volumes`, `sandboxes`. Kept over a reboot. */
  data: string;
  /** Bundles, namespaces, sockets. Gone after a reboot. */
  run: string;
}

export interface SystemDoors {
  processes: Processes;
  poll: Poll;
  netlink: Netlink;
  namespaces: Namespaces;
  mounts: Mounts;
  cgroups: Cgroups;
}

export interface EngineContext {
  instanceId: string;
  nodeName: string;
  /** Changes with every boot of the machine: processes of another boot are gone. */
  bootId: string;
  clock: Clock;
  random: Random;
  log: Logger;
  directories: EngineDirectories;
  os: SystemDoors;
  snapshots: Snapshots;
  images: Images;
  rules: RuleWriter;
  ports: Ports;
  plugins: Plugins;
  events: Events;
  /** The engine's own. */
  runtime: Runtime;
  /** By a container's wish (`spec.runtime`). */
  runtimes: Runtimes;
  cgroupParents: CgroupParents;
  hostLimits: HostLimits;
  networkSettings: NetworkSettings;
  /** The engine is root in a user namespace alone, of an ordinary user. */
  isRootless: boolean;
  /** Where devices are described; none: they are not looked for. */
  cdiDirectories: readonly string[];
  /** Absent: containers are in the host's user namespace. */
  userMapping?: UserMapping;
  /** The AppArmor profile of containers that ask for none; undefined where the host has no AppArmor. */
  apparmorDefault: string | undefined;
}
