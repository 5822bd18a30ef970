/** Bounds of plugins: strangers' programs that answer, or do not. */
/** An answer of a plugin. */
export const pluginAnswerBytesMax = 8 * 1024 * 1024;
/** How long one call may take; a mount may be of a network. */
export const pluginCallMsMax = 120_000;
/** How long a plugin that is away is tried again when it is needed, and first after what time. */
export const pluginWaitMsMax = 15_000;
export const pluginRetryMs = 100;
/** How long plugins may take that are only asked what they have. */
export const pluginListMsMax = 5_000;
/** Plugins of one machine that are looked at. */
export const pluginsMax = 256;
/** A call about a network, an endpoint or an address: a start of a container waits for it. */
export const networkPluginMsMax = 30_000;
/** Routes that a network driver gives one endpoint. */
export const networkRoutesMax = 256;
/** One entry of a log that a plugin gives back: a line is cut into pieces long before. */
export const pluginLogEntryBytesMax = 1024 * 1024;
