/** `/plugins/…`: managed plugins. */
import { ApiError } from '#base/errors.ts';
import { familiarName, parseReference, withDefaultTag } from '#base/reference.ts';
import type { Reference } from '#base/reference.ts';
import { textsOf } from '#base/unknown.ts';
import type { ManagedPlugins, PluginRecord } from '#engine/managed-plugins/managed-plugins.ts';
import { capabilitiesOf } from '#engine/managed-plugins/plugin-config.ts';
import type { TransferOptions } from '#engine/managed-plugins/plugin-content.ts';
import { flagFilter, matchesAny, parseFilters } from './filters.ts';
import { credentialOf } from './images.ts';
import { streamJson } from './json-stream.ts';
import { queryFlag, reply } from './route.ts';
import type { Route, RouteContext } from './route.ts';

function showPlugin({ id, name, reference, enabled, config, settings }: PluginRecord): object {
  return { Id: id, Name: name, Enabled: enabled, Settings: settings, PluginReference: reference, Config: config };
}

function transferOf(context: RouteContext): TransferOptions {
  const credential = credentialOf(context);
  return { ...(credential === undefined ? {} : { credential }), signal: context.signal, progress: () => {} };
}

function remoteOf({ query }: RouteContext): Reference {
  const text = query.get('remote') ?? '';
  if (text === '') throw new ApiError('BadRequest', 'invalid reference format');
  return withDefaultTag(parseReference(text));
}

/** The name that the user wants, or that of the registry. */
function localName({ query }: RouteContext, remote: Reference): string {
  const name = query.get('name') ?? '';
  return familiarName(name === '' ? remote : withDefaultTag(parseReference(name)));
}

const nameOf = ({ params }: RouteContext): string => params['name'] ?? '';

async function listPlugins(plugins: ManagedPlugins, context: RouteContext): Promise<object[]> {
  const filters = parseFilters(context.query, ['enabled', 'capability']);
  const enabled = flagFilter(filters, 'enabled');
  return plugins
    .list()
    .filter((record) => enabled === undefined || record.enabled === enabled)
    .filter(({ config }) => {
      const own = capabilitiesOf(config.Interface.Types);
      return matchesAny(filters, 'capability', (wanted) => own.includes(wanted));
    })
    .map(showPlugin);
}

/** Progress follows, and what fails is its last line. */
async function transfer(context: RouteContext, run: (options: TransferOptions) => Promise<void>): Promise<void> {
  await streamJson(context.response, async (stream) => {
    await run({ ...transferOf(context), progress: (event) => stream.write(event) });
  });
}

export function pluginRoutes(plugins: ManagedPlugins): Route[] {
  return [
    { method: 'GET', path: '/plugins', handle: async (context) => listPlugins(plugins, context) },
    {
      method: 'GET',
      path: '/plugins/privileges',
      handle: async (context) => plugins.privileges(remoteOf(context), transferOf(context)),
    },
    {
      method: 'POST',
      path: '/plugins/pull',
      handle: async (context) => {
        const privileges = await context.jsonList();
        const remote = remoteOf(context);
        const name = localName(context, remote);
        // By it the client enables what it has installed.
        context.response.setHeader('Docker-Plugin-Name', name);
        return transfer(context, (options) => plugins.pull({ remote, name, privileges }, options));
      },
    },
    {
      method: 'POST',
      path: '/plugins/create',
      handle: async (context) => {
        const archive: AsyncIterable<Uint8Array> = context.request;
        await plugins.create(context.query.get('name') ?? '', archive);
        return reply(204);
      },
    },
    {
      method: 'GET',
      path: '/plugins/{name*}/json',
      handle: async (context) => showPlugin(plugins.get(nameOf(context))),
    },
    {
      method: 'DELETE',
      path: '/plugins/{name*}',
      handle: async (context) => showPlugin(await plugins.remove(nameOf(context), queryFlag(context.query, 'force'))),
    },
    {
      method: 'POST',
      path: '/plugins/{name*}/enable',
      handle: async (context) => {
        const timeout = context.query.get('timeout') || '0';
        if (!/^\d{1,6}$/.test(timeout)) throw new ApiError('BadRequest', `invalid timeout ${JSON.stringify(timeout)}`);
        await plugins.enable(nameOf(context), Number(timeout));
        return reply(200);
      },
    },
    {
      method: 'POST',
      path: '/plugins/{name*}/disable',
      handle: async (context) => {
        await plugins.disable(nameOf(context), queryFlag(context.query, 'force'));
        return reply(200);
      },
    },
    {
      method: 'POST',
      path: '/plugins/{name*}/set',
      handle: async (context) => {
        await plugins.set(nameOf(context), textsOf(await context.jsonList()));
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/plugins/{name*}/push',
      handle: async (context) => {
        // A name that nobody has is an answer of its own, before progress begins.
        plugins.get(nameOf(context));
        return transfer(context, (options) => plugins.push(nameOf(context), options));
      },
    },
    {
      method: 'POST',
      path: '/plugins/{name*}/upgrade',
      handle: async (context) => {
        const privileges = await context.jsonList();
        const wanted = { remote: remoteOf(context), name: nameOf(context), privileges };
        context.response.setHeader('Docker-Plugin-Name', plugins.get(wanted.name).name);
        return transfer(context, (options) => plugins.upgrade(wanted, options));
      },
    },
  ];
}
