/** Where an engine without a cluster keeps things: where its options say, else the usual places of root or the user. */
import { join } from 'node:path';
import type { PluginPlaces } from '#plugins/discovery.ts';
import { isOfUser, rootlessPlaces } from '../rootless/state.ts';
import type { DaemonConfig } from './config.ts';

export interface Places {
  data: string;
  run: string;
  pidfile: string;
  socket: string;
  /** Absent: where docker looks. */
  plugins?: PluginPlaces;
}

const rootPlaces: Places = {
  data: '/var/lib/tiphys-engine',
  run: '/run/tiphys-engine',
  pidfile: '/var/run/docker.pid',
  socket: '',
};

/** With TIPHYS_HOME everything is below it, and nothing of the system's is touched. */
export function placesOf(config: DaemonConfig, environment: Record<string, string | undefined>): Places {
  const home = environment['TIPHYS_HOME'] ?? '';
  const place = (key: string, own: string, usual: string): string =>
    config.text(key) || (home === '' ? usual : join(home, own));
  const usual = isOfUser(environment) ? rootlessPlaces(environment) : rootPlaces;
  const plugins = home === '' ? usual.plugins : { sockets: join(home, 'run/plugins'), specs: [join(home, 'plugins')] };
  return {
    data: place('data-root', 'engine', usual.data),
    run: place('exec-root', 'run/engine', usual.run),
    pidfile: place('pidfile', 'run/docker.pid', usual.pidfile),
    socket: home === '' ? usual.socket : `unix://${join(home, 'run/docker.sock')}`,
    ...(plugins === undefined ? {} : { plugins }),
  };
}
