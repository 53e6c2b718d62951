/** A real browser without a window, driven over its own debugging protocol. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Debugged } from './debugged.ts';
import { findProgram } from './programs.ts';
import { until } from './site.ts';

/** Connects nowhere but to the loopback. */
const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--remote-debugging-port=0',
];

export interface BrowserOptions {
  /** The host name that stands for the loopback. */
  readonly hostname: string;
  /** The public key whose certificate is believed, by its hash. */
  readonly keyHash: string;
}

/** One page in a browser of its own; `await using` ends both. */
export interface Page extends AsyncDisposable {
  open(url: string): Promise<void>;
  /** The value of a JavaScript expression in the page; it must be plain data, or a promise of that. */
  evaluate<T>(expression: string): Promise<T>;
  /** Types into a field, as far as the page can tell. */
  fill(selector: string, value: string | number): Promise<void>;
  click(selector: string): Promise<void>;
  /** The text of an element. */
  text(selector: string): Promise<string>;
  /** What the page threw or logged as an error. */
  readonly complaints: readonly string[];
}

export async function openBrowser({ hostname, keyHash }: BrowserOptions): Promise<Page> {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'));
  const args = [
    ...flags,
    `--user-data-dir=${profile}`,
    `--host-resolver-rules=MAP ${hostname} 127.0.0.1`,
    `--ignore-certificate-errors-spki-list=${keyHash}`,
    'about:blank',
  ];
  const browser = spawn(findProgram('chromium', 'chromium-browser', 'google-chrome') ?? 'chromium', args, {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  browser.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const end = async () => {
    const ended = browser.exitCode === null ? once(browser, 'exit') : undefined;
    browser.kill();
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    await until('the browser is there', () => said.includes('DevTools listening on '), 30_000);
    const address = new URL(/DevTools listening on (\S+)/.exec(said)?.[1] ?? '');
    const targets = (await (await fetch(`http://${address.host}/json/list`)).json()) as {
      type: string;
      webSocketDebuggerUrl: string;
    }[];
    const target = targets.find(({ type }) => type === 'page')?.webSocketDebuggerUrl ?? '';
    return await attach(await Debugged.at(target), end);
  } catch (error) {
    await end();
    throw new Error(`the browser did not start: ${said}`, { cause: error });
  }
}

async function attach(target: Debugged, end: () => Promise<void>): Promise<Page> {
  const complaints: string[] = [];
  target.on('Runtime.exceptionThrown', ({ exceptionDetails }) => complaints.push(JSON.stringify(exceptionDetails)));
  target.on('Log.entryAdded', ({ entry }) => {
    const { level, text, url } = entry as { level: string; text: string; url?: string };
    if (level === 'error') complaints.push(`${text} ${url ?? ''}`);
  });
  for (const domain of ['Page', 'Runtime', 'Log']) await target.ask(`${domain}.enable`);
  const element = (selector: string) => `document.querySelector(${JSON.stringify(selector)})`;
  return {
    complaints,
    evaluate: (expression) => target.evaluate(expression),
    async open(url) {
      const loaded = target.next('Page.loadEventFired');
      const { errorText } = await target.ask('Page.navigate', { url });
      if (errorText !== undefined) throw new Error(`${url}: ${errorText}`);
      await loaded;
    },
    fill: (selector, value) => target.evaluate(`void (${element(selector)}.value = ${JSON.stringify(String(value))})`),
    click: (selector) => target.evaluate(`void ${element(selector)}.click()`),
    text: (selector) => target.evaluate(`${element(selector)}.textContent`),
    async [Symbol.asyncDispose]() {
      target.close();
      await end();
    },
  };
}
