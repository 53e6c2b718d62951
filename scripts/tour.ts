/** A short tour of a running demo: what a tenant does, what is expected, and what is seen. */

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** Keeps the cookies of one sign-in and repeats the CSRF token, as a browser does. */
class Visitor {
  readonly #base: string;
  readonly #cookies = new Map<string, string>();

  constructor(base: string) {
    this.#base = base;
  }

  async send(method: string, path: string, form?: Readonly<Record<string, string>>): Promise<Reply> {
    const response = await fetch(`${this.#base}/api${path}`, {
      method,
      headers: {
        cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; '),
        csrfpreventiontoken: decodeURIComponent(this.#cookies.get('CSRFPreventionToken') ?? ''),
      },
      ...(form === undefined ? {} : { body: new URLSearchParams(form) }),
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
      this.#cookies.set(name, value);
    }
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }
}

interface Usage {
  readonly global: { readonly used: number; readonly max: number };
}

/** Plays the tour and prints a line for each step; false when anything was not as expected. */
export async function tour(url: string): Promise<boolean> {
  const alice = new Visitor(url);
  let allAsExpected = true;

  const step = async (title: string, expected: string, act: () => Promise<{ seen: string; right: boolean }>) => {
    const { seen, right } = await act().catch((error: Error) => ({ seen: error.message, right: false }));
    console.log(`${right ? 'ok  ' : 'FAIL'} ${title}: expected ${expected}, saw ${seen}`);
    allAsExpected &&= right;
  };
  const request = (
    title: string,
    status: number,
    text: string,
    method: string,
    path: string,
    form?: Readonly<Record<string, string>>,
  ) =>
    step(title, `${status}${text === '' ? '' : ` with "${text}"`}`, async () => {
      const reply = await alice.send(method, path, form);
      const said = String(reply.body.error ?? '');
      return {
        seen: `${reply.status}${said === '' ? '' : ` ${said}`}`,
        right: reply.status === status && said.includes(text),
      };
    });
  const cores = async () => ((await alice.send('GET', '/user/dynamic/resources')).body.cores as Usage).global;
  const usage = (title: string, difference: number) =>
    step(title, `${before + difference} cores in use`, async () => {
      const { used, max } = await cores();
      return { seen: `${used} of ${max} cores in use`, right: used === before + difference };
    });

  await request('sign in as alice', 200, '', 'POST', '/access/ticket', {
    username: 'alice@pve',
    password: 'alice-demo',
  });
  let before = Number.NaN;
  await step('see the quota', 'some of 8 cores in use', async () => {
    const { used, max } = await settledCores(cores);
    before = used;
    return { seen: `${used} of ${max} cores in use`, right: max === 8 && used > 0 };
  });
  await request('create a VM with 2 cores', 200, '', 'POST', '/cluster/n1/qemu/150/create', {
    name: 'tour',
    cores: '2',
    memory: '1024',
    pool: 'alice',
  });
  await usage('it counts', 2);
  const vm = '/cluster/n1/qemu/150';
  const size = (amount: string) => ({ cores: amount, memory: '1024', proctype: 'x86-64-v2-AES', boot: '' });
  await request('grow it to 3 cores', 200, '', 'POST', `${vm}/resources`, size('3'));
  await usage('that counts too', 3);
  await request('grow it to 64 cores', 403, 'Quota exceeded: cores', 'POST', `${vm}/resources`, size('64'));
  await usage('nothing was taken', 3);
  await request('shrink it to 1 core', 200, '', 'POST', `${vm}/resources`, size('1'));
  await usage('the rest is free again', 1);
  await request('delete it', 200, '', 'DELETE', `${vm}/delete`);
  await usage('usage is back to where it was', 0);
  return allAsExpected;
}

/** The usage once it stays as it is: a server that has just started is still looking at the guests, one after another. */
async function settledCores(cores: () => Promise<Usage['global']>): Promise<Usage['global']> {
  let last = await cores();
  for (let same = 0, tries = 0; same < 10 && tries < 300; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    const next = await cores();
    same = next.used === last.used && next.used > 0 ? same + 1 : 0;
    last = next;
  }
  return last;
}
